//! From events to changes of rows: the last change of each key, and which documents must be looked
//! up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::gather::{EventRef, written_at_millis};
use super::route::Routes;
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

/// What a run of events comes to, for the streams it is about.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// In the order of their first event.
    pub streams: Vec<StreamPlan<'a>>,
    /// Events after which streams cannot be followed as before.
    pub stops: Vec<Stop>,
    pub last_event: Option<ClusterTime>,
    /// Where in `streams` each stream stands.
    places: HashMap<usize, usize>,
}

/// What it comes to for one stream.
#[derive(Debug, Default)]
pub struct StreamPlan<'a> {
    /// The stream's place in its group.
    pub stream: usize,
    pub changes: Vec<Change<'a>>,
    pub broken: Vec<Broken>,
    /// Events by operation, in the order of [`Operation::ROWS`]; broken ones included where they
    /// tell.
    pub received: [u64; 4],
    /// When each event was written, in milliseconds since 1970.
    pub written_at_millis: Vec<i64>,
    pub last_event: Option<ClusterTime>,
    /// Where in `changes` the last change of each key stands.
    last: HashMap<String, usize>,
}

/// An event that changes no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    pub event: usize,
    /// The streams whose collection it is about.
    pub streams: Vec<usize>,
    pub operation: Operation,
    /// As the server names it.
    pub name: String,
}

/// Plans events for the streams that follow their collections. What comes after a stop is planned
/// no more for the streams that it is about.
pub fn plan<'a>(events: &'a [EventRef], routes: &Routes) -> Plan<'a> {
    let mut plan = Plan::default();
    for (index, event) in events.iter().enumerate() {
        let event = match Event::parse(event.bytes()) {
            Ok(event) => event,
            Err(error) => {
                let streams = followers(routes, collection_of(event.bytes()));
                for stream in plan.unstopped(&streams) {
                    let of_stream = plan.of(stream);
                    of_stream.broken.push(unreadable(index, error));
                    of_stream.count(Operation::Update);
                }
                continue;
            }
        };
        plan.last_event = plan.last_event.max(Some(event.cluster_time));
        let streams = plan.unstopped(&concerned(routes, &event));
        if !event.operation.changes_a_row() {
            let stops = |stream: &usize| routes.stops(*stream, event.cluster_time);
            let streams: Vec<usize> = streams.into_iter().filter(stops).collect();
            if !streams.is_empty() {
                let name = event.operation_name.to_owned();
                plan.stops.push(Stop { event: index, streams, operation: event.operation, name });
            }
            continue;
        }
        for stream in streams {
            if routes.applies(stream, event.cluster_time) {
                plan.of(stream).take(index, &event);
            }
        }
    }
    plan
}

/// The streams that an event is about: those of its collection and of the name that a rename gave
/// it; all, where it is about the whole database. Collections that nobody follows are let through,
/// too, while a position is of one of their events: what becomes of them is nothing to a stream.
fn concerned(routes: &Routes, event: &Event<'_>) -> Vec<usize> {
    if event.operation.changes_a_row() {
        return followers(routes, event.collection);
    }
    let is_of_all = matches!(event.operation, Operation::DropDatabase | Operation::Invalidate);
    if is_of_all || event.collection.is_none() {
        return (0..routes.len()).collect();
    }
    [event.collection, event.renamed_to].map(|name| routes.of(name)).concat()
}

/// The streams of a collection; the first one of the group for what does not tell its collection,
/// since somebody has to set it aside.
fn followers(routes: &Routes, collection: Option<&str>) -> Vec<usize> {
    match collection {
        Some(_) => routes.of(collection).to_vec(),
        None => vec![0],
    }
}

/// The collection of an event that cannot be read whole.
pub fn collection_of(event: &[u8]) -> Option<&str> {
    Doc::new(event).ok()?.get("ns").ok()??.as_document()?.get("coll").ok()??.as_str()
}

impl<'a> Plan<'a> {
    /// The plan of a stream.
    fn of(&mut self, stream: usize) -> &mut StreamPlan<'a> {
        let place = self.places.entry(stream).or_insert_with(|| {
            self.streams.push(StreamPlan { stream, ..StreamPlan::default() });
            self.streams.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "it was put there when the place was noted")]
        &mut self.streams[*place]
    }

    fn unstopped(&self, streams: &[usize]) -> Vec<usize> {
        let stopped = |stream| self.stops.iter().any(|stop| stop.streams.contains(stream));
        streams.iter().filter(|stream| !stopped(stream)).copied().collect()
    }
}

impl<'a> StreamPlan<'a> {
    fn count(&mut self, operation: Operation) {
        for (slot, known) in self.received.iter_mut().zip(Operation::ROWS) {
            *slot += u64::from(known == operation);
        }
    }

    fn take(&mut self, index: usize, event: &Event<'a>) {
        self.count(event.operation);
        self.written_at_millis.push(written_at_millis(event.wall_time_millis, event.cluster_time));
        self.last_event = Some(event.cluster_time);
        match changes(index, event) {
            Ok((before, change)) => {
                for change in before.into_iter().chain([change]) {
                    self.keep(change);
                }
            }
            Err(error) => self.broken.push(Broken {
                event: index,
                operation: event.operation.name(),
                cluster_time: Some(event.cluster_time),
                error,
            }),
        }
    }

    /// The last change of a key takes the place of the one before it.
    fn keep(&mut self, change: Change<'a>) {
        match self.last.entry(change.id.clone()) {
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
