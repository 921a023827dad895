//! The preparer: gathers replies into batches, looks up what must be looked up, encodes rows.
//!
//! A batch grows while the writer is busy and goes at once when it is idle (after `batch.linger`).

use std::collections::HashMap;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::block_in_place::block_in_place_if_many;
use super::context::{Context, retry};
use crate::apply::{DeadLetter, Drift, Origins, Rows, Work};
use crate::batch::{BatchLimits, Change, EventRef, Gather, Plan, Taken, plan};
use crate::error::{Class, Code, Fault};
use crate::model::bson::Doc;
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::event::Operation;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::model::step::Step;
use crate::model::value::encode_id;
use crate::source::Reply;

/// A sealed batch: nothing is added to it any more, and what it needs has been looked up and
/// encoded. It is written in one transaction; what else it holds is told once that is committed.
#[derive(Debug, Default)]
pub struct Batch {
    pub work: Work,
    /// The position before this batch: what the applier must have committed, or hold as idle, when
    /// it comes.
    pub follows: Option<ResumeToken>,
    pub received: [u64; 4],
    /// Updates whose document is gone: their delete follows.
    pub gone: u64,
    pub written_at_millis: Vec<i64>,
    pub last_event: Option<ClusterTime>,
    pub drift: Drift,
    /// What comes after this batch cannot be applied.
    pub halt: Option<Fault>,
}

type Replies = mpsc::Receiver<Result<Reply, Fault>>;

/// Prepares batches until the replies end or the receiver goes away. An error is the last thing
/// sent.
pub async fn prepare(
    context: Context,
    position: Position,
    replies: Replies,
    batches: mpsc::Sender<Result<Batch, Fault>>,
) {
    let mut preparer = Preparer::new(context, position, replies);
    while let Some(batch) = preparer.next(&batches).await {
        let ended = batch.is_err();
        if batches.send(batch).await.is_err() || ended {
            return;
        }
    }
}

/// One reply's events as a batch, or the first of them if they are too large together.
pub async fn prepare_one(context: &Context, after: Position, reply: Reply) -> Result<Batch, Fault> {
    let (_, replies) = mpsc::channel(1);
    let mut preparer = Preparer::new(context.clone(), after, replies);
    preparer.push(reply);
    if let Some(fault) = preparer.ended.take() {
        return Err(fault);
    }
    let batch = preparer.seal().await?;
    Ok(preparer.chain(batch))
}

struct Preparer {
    context: Context,
    replies: Replies,
    gather: Gather,
    limits: BatchLimits,
    /// Fewer than the limit after documents turned out to be large.
    events_now: usize,
    /// The reader's last word; told once everything before it has been handed on.
    ended: Option<Fault>,
    /// The position after the batch handed on last.
    last: ResumeToken,
}

impl Preparer {
    fn new(context: Context, position: Position, replies: Replies) -> Self {
        let batch = context.settings.batch;
        let limits = BatchLimits { events: batch.events_max, bytes: batch.bytes_max };
        let last = position.token.clone();
        let gather = Gather::after(position);
        Self { context, replies, gather, limits, events_now: limits.events, ended: None, last }
    }

    /// The next batch, or the error after the last; `None` once nobody reads or writes any more.
    async fn next(
        &mut self,
        batches: &mpsc::Sender<Result<Batch, Fault>>,
    ) -> Option<Result<Batch, Fault>> {
        if self.gather.is_empty() {
            if let Some(fault) = self.ended.take() {
                return Some(Err(fault));
            }
            match self.replies.recv().await? {
                Ok(reply) => self.push(reply),
                Err(fault) => return Some(Err(fault)),
            }
        }
        self.grow(batches).await?;
        let sealed = self.seal().await.map(|batch| self.chain(batch));
        Some(sealed)
    }

    /// Each batch says which one it follows, so that the applier would notice one that went
    /// missing.
    fn chain(&mut self, mut batch: Batch) -> Batch {
        batch.follows = Some(self.last.clone());
        if let Some(position) = &batch.work.position {
            self.last = position.token.clone();
        }
        batch
    }

    /// Takes more replies in while the writer is busy, and for `linger` while it is not.
    async fn grow(&mut self, batches: &mpsc::Sender<Result<Batch, Fault>>) -> Option<()> {
        let linger = Instant::now() + self.context.settings.batch.linger;
        while !self.gather.is_empty() && !self.gather.is_full(self.limits) && self.ended.is_none() {
            let writer_is_ready = async {
                let permit = batches.reserve().await;
                tokio::time::sleep_until(linger).await;
                permit.map(drop)
            };
            tokio::select! {
                biased;
                reply = self.replies.recv() => match reply? {
                    Ok(reply) => self.push(reply),
                    Err(fault) => self.ended = Some(fault),
                },
                ready = writer_is_ready => {
                    ready.ok()?;
                    break;
                }
            }
        }
        Some(())
    }

    fn push(&mut self, reply: Reply) {
        if let Err(error) = self.gather.push(reply) {
            self.ended = Some(Fault::new(
                Class::Halt,
                Code::SourceMisconfigured,
                format!("mongodb's events: {error}"),
                "",
            ));
        }
    }

    /// Turns what is gathered into a batch, halving it for as long as its documents are too large
    /// together.
    async fn seal(&mut self) -> Result<Batch, Fault> {
        let limits = BatchLimits { events: self.events_now, ..self.limits };
        let mut taken = self.gather.take(limits).map_err(unreadable)?;
        loop {
            let work = Work { rows: self.context.buffers.take(), ..Work::default() };
            let mut batch = Batch { work, ..Batch::default() };
            let plan = block_in_place_if_many(taken.events.len(), || plan(&taken.events));
            let stop = plan.stop.clone();
            block_in_place_if_many(plan.changes.len(), || {
                self.encode(&plan, &taken.events, &mut batch);
            });
            if self.look_up(&plan, &taken.events, &mut batch).await? {
                self.events_now = (self.events_now * 2).min(self.limits.events);
                if let Some((index, operation, name)) = stop {
                    batch.halt = Some(self.stopped_by(operation, &name));
                    taken.truncate(index).map_err(unreadable)?;
                }
                return Ok(finish(taken, batch));
            }
            let half = taken.events.len() / 2;
            self.events_now = half;
            self.gather.give_back(&mut taken, half).map_err(unreadable)?;
        }
    }

    /// Encodes what the events brought.
    fn encode(&self, plan: &Plan<'_>, events: &[EventRef], batch: &mut Batch) {
        batch.received = plan.received;
        batch.written_at_millis.clone_from(&plan.written_at_millis);
        batch.last_event = plan.last_event;
        let work = &mut batch.work;
        // Inserts first: they are the rows not expected to be there.
        let (inserts, others): (Vec<_>, Vec<_>) =
            plan.changes.iter().partition(|change| change.operation == Operation::Insert);
        let fresh = inserts.len();
        for (place, change) in inserts.into_iter().chain(others).enumerate() {
            if place == fresh {
                work.fresh = work.rows.len();
            }
            if change.operation == Operation::Delete {
                work.deletes.push_event(change.id.clone(), change.cluster_time, change.event);
            } else if let Some(document) = change.document {
                let at = change.cluster_time;
                let letter =
                    self.encode_one(change, document, at, events, &mut work.rows, &mut batch.drift);
                work.dead.extend(letter);
            }
        }
        if fresh == plan.changes.len() {
            work.fresh = work.rows.len();
        }
        work.dead.extend(plan.broken.iter().map(|broken| DeadLetter {
            document_id: None,
            operation: broken.operation,
            event: bytes_of(events, broken.event),
            code: DeadLetterCode::Malformed,
            error: broken.error.clone(),
            cluster_time: broken.cluster_time,
        }));
    }

    /// One row, as the document was at a time; or, if the document is not BSON or too large, a dead
    /// letter with the whole event.
    fn encode_one(
        &self,
        change: &Change<'_>,
        document: Doc<'_>,
        at: ClusterTime,
        events: &[EventRef],
        rows: &mut Rows,
        drift: &mut Drift,
    ) -> Option<DeadLetter> {
        let encoded =
            self.context.mapping.encode(&change.id, document, at, change.event, rows, drift);
        encoded.err().map(|error| DeadLetter {
            document_id: Some(change.id.clone()),
            operation: change.operation.name(),
            event: bytes_of(events, change.event),
            code: error.code(),
            error: error.to_string(),
            cluster_time: Some(change.cluster_time),
        })
    }

    /// Reads and encodes the documents that events did not bring, once for all keys, as they are
    /// after the batch. False if the rows outgrew the limit and the batch holds more than one
    /// event.
    async fn look_up(
        &self,
        plan: &Plan<'_>,
        events: &[EventRef],
        batch: &mut Batch,
    ) -> Result<bool, Fault> {
        let wanted: Vec<_> = plan.changes.iter().filter(|change| change.needs_lookup()).collect();
        if wanted.is_empty() {
            return Ok(true);
        }
        let kept = batch.work.rows.len();
        let mut found = Found { rows: std::mem::take(&mut batch.work.rows), ..Found::default() };
        let mut has_failed = false;
        let read = retry!(self.context, Step::Lookup, async {
            let read = self.read_documents(plan, &wanted, events, &mut found).await;
            if read.is_err() {
                has_failed = true;
                found.rows.truncate(kept);
                found = Found { rows: std::mem::take(&mut found.rows), ..Found::default() };
            }
            read
        });
        let fits = read?;
        if has_failed {
            self.context.status.recovered(&[Step::Lookup]);
        }
        batch.gone = crate::model::count(wanted.len().saturating_sub(found.documents));
        batch.drift.add(found.drift);
        batch.work.rows = found.rows;
        batch.work.dead.extend(found.dead);
        Ok(fits)
    }

    /// Reply by reply, so that no more than the limit and one reply are held; false if the limit
    /// was passed.
    async fn read_documents(
        &self,
        plan: &Plan<'_>,
        wanted: &[&Change<'_>],
        events: &[EventRef],
        found: &mut Found,
    ) -> Result<bool, Fault> {
        let ids: Vec<_> = wanted.iter().map(|change| change.raw_id).collect();
        let by_id: ById<'_> = wanted.iter().map(|change| (change.id.as_bytes(), *change)).collect();
        let after = plan.last_event.unwrap_or_default();
        let mut documents =
            self.context.source.lookup(&self.context.config.collection, &ids, after).await?;
        while let Some(reply) = documents.next().await? {
            // A row carries the time its document was read at, not its event's: events in between
            // are older than it.
            let at = documents.read_at.unwrap_or(after).max(after);
            block_in_place_if_many(reply.len(), || {
                self.encode_found(&reply, at, &by_id, events, found);
            });
            if found.rows.size() > 2 * self.limits.bytes && events.len() > 1 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn encode_found(
        &self,
        reply: &Reply,
        at: ClusterTime,
        wanted: &ById<'_>,
        events: &[EventRef],
        found: &mut Found,
    ) {
        let mut id = Vec::with_capacity(24);
        for bytes in reply.items() {
            id.clear();
            let document = Doc::new(bytes).ok();
            let raw_id = document.and_then(|document| document.get("_id").ok().flatten());
            let known = raw_id.is_some_and(|raw_id| encode_id(raw_id, &mut id).is_ok());
            // An equal number of another type, or a collation's equal, is another key.
            let change = wanted.get(id.as_slice()).filter(|_| known);
            if let Some((document, change)) = document.zip(change) {
                found.documents += 1;
                let letter = self.encode_one(
                    change,
                    document,
                    at,
                    events,
                    &mut found.rows,
                    &mut found.drift,
                );
                found.dead.extend(letter);
            }
        }
    }

    fn stopped_by(&self, operation: Operation, name: &str) -> Fault {
        let namespace = &self.context.namespace;
        match operation {
            Operation::Unknown => Fault::new(
                Class::Halt,
                Code::SourceMisconfigured,
                format!("{namespace} sent a {name:?} event, which this release does not know"),
                "upgrade tidemark; nothing was skipped",
            ),
            _ => Fault::new(
                Class::Halt,
                Code::SourceDropped,
                format!("{namespace} was dropped or renamed ({name} event)"),
                "the table is untouched; once the collection is there again, the stream goes on by \
                 itself with a resync",
            ),
        }
    }
}

/// Changes by the `id` of their document.
type ById<'p> = HashMap<&'p [u8], &'p Change<'p>>;

/// What one attempt at looking documents up found.
#[derive(Default)]
struct Found {
    rows: Rows,
    documents: usize,
    drift: Drift,
    dead: Vec<DeadLetter>,
}

fn bytes_of(events: &[EventRef], index: usize) -> Vec<u8> {
    events.get(index).map(|event| event.bytes().to_vec()).unwrap_or_default()
}

fn finish(taken: Taken, mut batch: Batch) -> Batch {
    batch.work.events = batch.received.iter().sum();
    // A batch that ends before its first event stands for no new position.
    let moves = !taken.events.is_empty() || batch.halt.is_none();
    batch.work.position = moves.then_some(taken.position);
    batch.work.origins = Origins::Events(taken.events);
    batch
}

fn unreadable(error: crate::model::bson::Malformed) -> Fault {
    Fault::new(
        Class::Halt,
        Code::SourceMisconfigured,
        format!("an event without a readable token: {error}"),
        "",
    )
}
