//! From a planned batch to rows: what the events brought, and the documents that have to be looked
//! up, stream by stream.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::block_in_place::block_in_place_if_many;
use super::context::{Context, GroupContext, retry};
use crate::apply::{DeadLetter, Drift, Rows, Work};
use crate::batch::{Change, EventRef, Plan, StreamPlan, collection_of};
use crate::error::Fault;
use crate::model::bson::Doc;
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::event::Operation;
use crate::model::position::ClusterTime;
use crate::model::redaction::Evidence;
use crate::model::step::Step;
use crate::model::value::encode_id;
use crate::source::Reply;

/// How many streams' documents are looked up at once.
const LOOKUPS: usize = 2;

/// What is told of one stream's part of a batch once it is committed.
#[derive(Debug, Default)]
pub struct OfStream {
    /// The stream's place in its group.
    pub stream: usize,
    /// By operation, in the order of [`Operation::ROWS`].
    pub received: [u64; 4],
    /// Updates whose document is gone: their delete follows.
    pub gone: u64,
    /// Changes to documents that are not followed, or not any more: their rows are deleted.
    pub filtered: [u64; 4],
    pub written_at_millis: Vec<i64>,
    pub last_event: Option<ClusterTime>,
    pub drift: Drift,
}

impl OfStream {
    /// Adds what is told of later events.
    pub fn add(&mut self, later: Self) {
        for (mine, later) in self.received.iter_mut().zip(later.received) {
            *mine += later;
        }
        self.gone += later.gone;
        for (mine, later) in self.filtered.iter_mut().zip(later.filtered) {
            *mine += later;
        }
        self.written_at_millis.extend(later.written_at_millis);
        self.last_event = self.last_event.max(later.last_event);
        self.drift.add(later.drift);
    }
}

/// One stream's part of a batch.
type StreamPart = (Work, OfStream);

/// Encodes one batch.
pub(super) struct Encoder<'a> {
    group: &'a GroupContext,
    events: &'a Arc<[EventRef]>,
    bytes_max: usize,
    /// The cluster time that documents are looked up at or after: of the batch's last event.
    at: ClusterTime,
}

impl<'a> Encoder<'a> {
    pub fn new(
        group: &'a GroupContext,
        events: &'a Arc<[EventRef]>,
        bytes_max: usize,
        at: Option<ClusterTime>,
    ) -> Self {
        Self { group, events, bytes_max, at: at.unwrap_or_default() }
    }

    /// The works of all streams of a plan. `None` if the rows outgrew the limit and the batch holds
    /// more than one event.
    pub async fn run(&self, plan: &Plan<'_>) -> Result<Option<(Vec<Work>, Vec<OfStream>)>, Fault> {
        let mut lookups = Vec::with_capacity(plan.streams.len());
        for of in &plan.streams {
            let Some(context) = self.group.streams.get(of.stream) else { continue };
            let (work, told) =
                block_in_place_if_many(of.changes.len(), || self.encode(context, of));
            lookups.push(self.look_up(of, work, told).boxed());
        }
        let parts: Vec<Option<StreamPart>> =
            stream::iter(lookups).buffered(LOOKUPS).try_collect().await?;
        let parts: Option<Vec<_>> = parts.into_iter().collect();
        let size = |(work, _): &StreamPart| work.rows.size();
        let fits = |parts: &Vec<StreamPart>| {
            self.events.len() <= 1 || parts.iter().map(size).sum::<usize>() <= 2 * self.bytes_max
        };
        Ok(parts.filter(fits).map(|parts| parts.into_iter().unzip()))
    }

    /// Encodes what the events brought.
    fn encode(&self, context: &Context, of: &StreamPlan<'_>) -> (Work, OfStream) {
        let rows = self.group.buffers.take();
        let mut work = Work { stream: of.stream, rows, ..Work::default() };
        work.events = of.received.iter().sum();
        let mut told = OfStream {
            stream: of.stream,
            received: of.received,
            written_at_millis: of.written_at_millis.clone(),
            last_event: of.last_event,
            ..OfStream::default()
        };
        // Inserts first: they are the rows not expected to be there.
        let (inserts, others): (Vec<_>, Vec<_>) =
            of.changes.iter().partition(|change| change.operation == Operation::Insert);
        let fresh = inserts.len();
        for (place, change) in inserts.into_iter().chain(others).enumerate() {
            if place == fresh {
                work.fresh = work.rows.len();
            }
            if change.operation == Operation::Delete {
                work.deletes.push_event(change.id.clone(), change.cluster_time, change.event);
            } else if let Some(document) = change.document {
                if !context.mapping.follows(document.bytes()) {
                    work.deletes.push_event(change.id.clone(), change.cluster_time, change.event);
                    count(&mut told.filtered, change.operation);
                    continue;
                }
                let (at, into) = (change.cluster_time, (&mut work.rows, &mut told.drift));
                work.dead.extend(self.encode_one(context, change, document, at, into));
            }
        }
        if fresh == of.changes.len() {
            work.fresh = work.rows.len();
        }
        work.dead.extend(of.broken.iter().map(|broken| DeadLetter {
            document_id: None,
            operation: broken.operation,
            event: self.evidence_of_broken(context, self.bytes_of(broken.event)),
            code: DeadLetterCode::Malformed,
            error: broken.error.clone(),
            cluster_time: broken.cluster_time,
        }));
        (work, told)
    }

    /// What does not tell its collection may be of any stream's: nothing of it is kept where one of
    /// them hides something.
    fn evidence_of_broken(&self, context: &Context, event: &[u8]) -> Evidence {
        let mut streams = self.group.streams.iter();
        if collection_of(event).is_none()
            && streams.any(|stream| !stream.mapping.redaction().is_none())
        {
            return Evidence::of_key(None);
        }
        context.mapping.evidence_of_event(event)
    }

    /// One row, as the document was at a time; or, if the document is not BSON or too large, a dead
    /// letter with the event.
    fn encode_one(
        &self,
        context: &Context,
        change: &Change<'_>,
        document: Doc<'_>,
        at: ClusterTime,
        (rows, drift): (&mut Rows, &mut Drift),
    ) -> Option<DeadLetter> {
        let encoded = context.mapping.encode(&change.id, document, at, change.event, rows, drift);
        encoded.err().map(|error| DeadLetter {
            document_id: Some(change.id.clone()),
            operation: change.operation.name(),
            event: context.mapping.evidence_of_event(self.bytes_of(change.event)),
            code: error.code(),
            error: error.to_string(),
            cluster_time: Some(change.cluster_time),
        })
    }

    fn bytes_of(&self, index: usize) -> &[u8] {
        self.events.get(index).map_or(&[], EventRef::bytes)
    }

    /// Reads and encodes the documents that events did not bring, once for all keys, as they are
    /// after the batch. `None` if the rows outgrew the limit and the batch holds more than one
    /// event.
    async fn look_up(
        &self,
        of: &StreamPlan<'_>,
        mut work: Work,
        mut told: OfStream,
    ) -> Result<Option<StreamPart>, Fault> {
        let wanted: Vec<_> = of.changes.iter().filter(|change| change.needs_lookup()).collect();
        let (false, Some(context)) = (wanted.is_empty(), self.group.streams.get(of.stream)) else {
            return Ok(Some((work, told)));
        };
        let kept = work.rows.len();
        let mut found = Found { rows: std::mem::take(&mut work.rows), ..Found::default() };
        let mut has_failed = false;
        let read = retry!(self.group, Step::Lookup, async {
            let read = self.read_documents(context, &wanted, &mut found).await;
            if read.is_err() {
                has_failed = true;
                found.rows.truncate(kept);
                found = Found { rows: std::mem::take(&mut found.rows), ..Found::default() };
            }
            read
        });
        let fits = read?;
        if has_failed {
            self.group.status.recovered(&[Step::Lookup]);
        }
        told.gone = crate::model::count(wanted.len().saturating_sub(found.documents));
        told.drift.add(found.drift);
        for (change, at) in found.left {
            work.deletes.push_event(change.id.clone(), at, change.event);
            count(&mut told.filtered, change.operation);
        }
        work.ahead = found.ahead;
        work.rows = found.rows;
        work.dead.extend(found.dead);
        Ok(fits.then_some((work, told)))
    }

    /// Reply by reply, so that no more than the limit and one reply are held; false if the limit
    /// was passed.
    async fn read_documents<'p>(
        &self,
        context: &Context,
        wanted: &[&'p Change<'p>],
        found: &mut Found<'p>,
    ) -> Result<bool, Fault> {
        let ids: Vec<_> = wanted.iter().map(|change| change.raw_id).collect();
        let by_id: ById<'p> = wanted.iter().map(|change| (change.id.as_bytes(), *change)).collect();
        let mut documents =
            context.source.lookup_at(&context.config.collection, &ids, self.at).await?;
        while let Some(reply) = documents.next().await? {
            // A row carries the time its document was read at, not its event's: events in between
            // are older than it. Of what is as it was right after the batch, none are: that is so
            // since its own event.
            let at = documents.read_at.unwrap_or(self.at).max(self.at);
            let at = (documents.read_at != Some(self.at)).then_some(at);
            block_in_place_if_many(reply.len(), || {
                self.encode_found(context, &reply, at, &by_id, found);
            });
            if found.rows.size() > 2 * self.bytes_max && self.events.len() > 1 {
                return Ok(false);
            }
        }
        // Also of what was not found: its row is as it was, and its deletion is still to come.
        let until = context.source.read_until(documents.read_until).await?;
        found.ahead = Some(until).filter(|until| *until > self.at);
        Ok(true)
    }

    fn encode_found<'p>(
        &self,
        context: &Context,
        reply: &Reply,
        at: Option<ClusterTime>,
        wanted: &ById<'p>,
        found: &mut Found<'p>,
    ) {
        let mut id = Vec::with_capacity(24);
        for bytes in reply.items() {
            id.clear();
            let document = Doc::new(bytes).ok();
            let raw_id = document.and_then(|document| document.get("_id").ok().flatten());
            let known = raw_id.is_some_and(|raw_id| encode_id(raw_id, &mut id).is_ok());
            // An equal number of another type, or a collation's equal, is another key.
            let change = wanted.get(id.as_slice()).copied().filter(|_| known);
            if let Some((document, change)) = document.zip(change) {
                found.documents += 1;
                let at = at.unwrap_or(change.cluster_time);
                if !context.mapping.follows(bytes) {
                    found.left.push((change, at));
                    continue;
                }
                let into = (&mut found.rows, &mut found.drift);
                found.dead.extend(self.encode_one(context, change, document, at, into));
            }
        }
    }
}

/// Counts by operation, in the order of [`Operation::ROWS`].
fn count(by_operation: &mut [u64; 4], operation: Operation) {
    for (number, known) in by_operation.iter_mut().zip(Operation::ROWS) {
        *number += u64::from(known == operation);
    }
}

/// Changes by the `id` of their document.
type ById<'p> = HashMap<&'p [u8], &'p Change<'p>>;

/// What one attempt at looking documents up found.
#[derive(Default)]
struct Found<'p> {
    rows: Rows,
    documents: usize,
    /// Those that are not followed, and when they were not.
    left: Vec<(&'p Change<'p>, ClusterTime)>,
    drift: Drift,
    dead: Vec<DeadLetter>,
    /// What was read may be of any time up to this one, later than the batch.
    ahead: Option<ClusterTime>,
}
