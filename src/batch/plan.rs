//! From events to changes of rows: the last change of each key, and which documents must be looked
//! up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::gather::{EventRef, written_at_millis};
use crate::model::bson::{Doc, Malformed, Value};
use crate::model::event::{Event, Operation};
use crate::model::position::ClusterTime;
use crate::model::value::encode_id;

/// The last change of one key.
#[derive(Debug)]
pub struct Change<'a> {
    /// Which of the batch's events it is.
    pub event: usize,
    pub operation: Operation,
    pub id: String,
    pub raw_id: Value<'a>,
    pub cluster_time: ClusterTime,
    /// The document after the change, where the event brought it.
    pub document: Option<Doc<'a>>,
}

impl Change<'_> {
    /// Whether the document must be read from the collection.
    pub const fn needs_lookup(&self) -> bool {
        !matches!(self.operation, Operation::Delete) && self.document.is_none()
    }
}

/// An event that cannot be read, or whose `_id` cannot be a key.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    pub event: usize,
    pub operation: &'static str,
    pub cluster_time: Option<ClusterTime>,
    pub error: String,
}

/// What a run of events comes to.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    pub changes: Vec<Change<'a>>,
    pub broken: Vec<Broken>,
    /// Events by operation, in the order of [`Operation::ROWS`]; broken ones included where they
    /// tell.
    pub received: [u64; 4],
    /// The event that changes no row and so ends the run, and its operation as the server names it.
    pub stop: Option<(usize, Operation, String)>,
    /// When each event was written, in milliseconds since 1970.
    pub written_at_millis: Vec<i64>,
    pub last_event: Option<ClusterTime>,
}

/// Plans the events up to the first that changes no row.
pub fn plan(events: &[EventRef]) -> Plan<'_> {
    let mut plan = Plan::default();
    let mut last: HashMap<String, usize> = HashMap::with_capacity(events.len());
    for (index, event) in events.iter().enumerate() {
        let bytes = event.bytes();
        let event = match Event::parse(bytes) {
            Ok(event) if !event.operation.changes_a_row() => {
                plan.stop = Some((index, event.operation, event.operation_name.to_owned()));
                break;
            }
            Ok(event) => event,
            Err(error) => {
                plan.broken.push(unreadable(index, error));
                plan.count(Operation::Update);
                continue;
            }
        };
        plan.count(event.operation);
        plan.written_at_millis.push(written_at_millis(event.wall_time_millis, event.cluster_time));
        plan.last_event = Some(event.cluster_time);
        match changes(index, &event) {
            Ok((before, change)) => {
                for change in before.into_iter().chain([change]) {
                    plan.keep(change, &mut last);
                }
            }
            Err(error) => plan.broken.push(Broken {
                event: index,
                operation: event.operation.name(),
                cluster_time: Some(event.cluster_time),
                error,
            }),
        }
    }
    plan
}

impl<'a> Plan<'a> {
    fn count(&mut self, operation: Operation) {
        for (slot, known) in self.received.iter_mut().zip(Operation::ROWS) {
            *slot += u64::from(known == operation);
        }
    }

    /// The last change of a key takes the place of the one before it.
    fn keep(&mut self, change: Change<'a>, last: &mut HashMap<String, usize>) {
        match last.entry(change.id.clone()) {
            Entry::Occupied(place) => {
                if let Some(slot) = self.changes.get_mut(*place.get()) {
                    *slot = change;
                }
            }
            Entry::Vacant(place) => {
                place.insert(self.changes.len());
                self.changes.push(change);
            }
        }
    }
}

/// What an event changes; before it, where the document's `_id` is of another type now, the end of
/// the row it had.
type Changes<'a> = (Option<Change<'a>>, Change<'a>);

fn changes<'a>(index: usize, event: &Event<'a>) -> Result<Changes<'a>, String> {
    let raw_id = event.id.ok_or_else(|| "event without documentKey._id".to_owned())?;
    let of = |operation, raw_id, document| {
        Ok::<_, String>(Change {
            event: index,
            operation,
            id: id_of(raw_id)?,
            raw_id,
            cluster_time: event.cluster_time,
            document,
        })
    };
    let before = event.was.map(|was| of(Operation::Delete, was, None)).transpose()?;
    Ok((before, of(event.operation, raw_id, event.document)?))
}

fn id_of(raw_id: Value<'_>) -> Result<String, String> {
    let mut id = Vec::with_capacity(24);
    encode_id(raw_id, &mut id).map_err(|error| error.to_string())?;
    String::from_utf8(id).map_err(|_| "an id that is not UTF-8".to_owned())
}

fn unreadable(event: usize, error: Malformed) -> Broken {
    Broken { event, operation: "unreadable", cluster_time: None, error: error.to_string() }
}

#[cfg(test)]
mod tests;
