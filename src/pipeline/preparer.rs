//! The preparer: gathers replies into batches, looks up what must be looked up, encodes rows.
//!
//! A batch grows while the writer is busy, and goes at once when the writer has nothing to do; and
//! `batch.linger` after the one before, so that it is ready when that one is written.

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::block_in_place::block_in_place_if_many;
use super::context::GroupContext;
use super::encoder::{Encoder, OfStream};
use super::reader::Came;
use crate::apply::{Commit, Origins};
use crate::batch::{BatchLimits, Gather, Piece, Plan, Stop, Taken, plan};
use crate::error::{Class, Code, Fault};
use crate::model::event::{Event, Operation};
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::source::Reply;
use crate::spans::Span;

/// A sealed batch: nothing is added to it any more, and what it needs has been looked up and
/// encoded. It is written in one transaction; what else it holds is told once that is committed.
#[derive(Debug)]
pub struct Batch {
    pub commit: Commit,
    /// Which part of what the source committed at one time it ends with.
    pub piece: Piece,
    /// The position before this batch: what the applier must have committed, or hold as idle, when
    /// it comes.
    pub follows: ResumeToken,
    /// What is told of each work, in their order.
    pub told: Vec<OfStream>,
    /// Streams that cannot be followed from here on, and why.
    pub stops: Vec<(usize, Fault)>,
    /// Events of streams that were parked when it was prepared.
    pub left_out: Vec<(usize, u64)>,
    /// Its last event is of a collection that is followed.
    pub is_of_ours: bool,
    /// How many events it stands for, those of no stream included.
    pub events: usize,
    pub last_event: Option<ClusterTime>,
    /// What comes after this batch cannot be applied.
    pub halt: Option<Fault>,
}

/// What became of events that were to be a batch.
enum Sealed {
    Batch(Box<Batch>),
    /// One of them stops the one stream of the group, which ends before it.
    Stopped(Stop),
    /// Their documents are too large together.
    TooLarge,
}

type Replies = mpsc::Receiver<Result<Came, Fault>>;

/// Prepares batches until the replies end or the receiver goes away. An error is the last thing
/// sent.
pub async fn prepare(
    group: GroupContext,
    position: Position,
    replies: Replies,
    batches: mpsc::Sender<Result<Batch, Fault>>,
    writer_waits: watch::Sender<bool>,
) {
    let mut preparer = Preparer::new(group, position, replies, writer_waits.subscribe());
    while let Some(batch) = preparer.next(&batches).await {
        let ended = batch.is_err();
        writer_waits.send_replace(false);
        if batches.send(batch).await.is_err() || ended {
            return;
        }
    }
}

/// One reply's events as a batch, or the first of them if they are too large together; of cluster
/// times no heed is taken.
pub async fn prepare_one(
    group: &GroupContext,
    after: Position,
    reply: Reply,
) -> Result<Batch, Fault> {
    let (_, replies) = mpsc::channel(1);
    let (_, writer_waits) = watch::channel(true);
    let mut preparer = Preparer::new(group.clone(), after, replies, writer_waits);
    preparer.push(Came { reply, is_open: false });
    if let Some(fault) = preparer.ended.take() {
        return Err(fault);
    }
    let follows = preparer.last.clone();
    loop {
        let limits = BatchLimits { events: preparer.events_now, ..preparer.limits };
        let taken = preparer.gather.take_any(limits).map_err(unreadable)?;
        match preparer.sealed(&taken).await? {
            Sealed::Batch(batch) => return Ok(Batch { follows, ..*batch }),
            Sealed::Stopped(stop) if stop.event == 0 => {
                return Ok(Batch { follows, ..preparer.halted(&taken, &stop) });
            }
            Sealed::Stopped(stop) => preparer.events_now = stop.event,
            Sealed::TooLarge => {}
        }
        preparer.gather.give_back(&taken, None);
    }
}

struct Preparer {
    group: GroupContext,
    replies: Replies,
    gather: Gather,
    limits: BatchLimits,
    /// Fewer than the limit after documents turned out to be large.
    events_now: usize,
    /// The reader's last word; told once everything before it has been handed on.
    ended: Option<Fault>,
    /// The position after the batch handed on last.
    last: ResumeToken,
    /// When a batch with events was handed on last.
    handed_on: Option<Instant>,
    /// The writer has nothing to do.
    writer_waits: watch::Receiver<bool>,
}

impl Preparer {
    fn new(
        group: GroupContext,
        position: Position,
        replies: Replies,
        writer_waits: watch::Receiver<bool>,
    ) -> Self {
        let batch = group.settings.batch;
        let bytes = group.settings.batch_bytes_max();
        let limits = BatchLimits { events: batch.events_max, bytes };
        let last = position.token.clone();
        let gather = Gather::after(position);
        Self {
            group,
            replies,
            gather,
            limits,
            events_now: limits.events,
            ended: None,
            last,
            handed_on: None,
            writer_waits,
        }
    }

    /// The next batch, or the error after the last; `None` once nobody reads or writes any more.
    async fn next(
        &mut self,
        batches: &mpsc::Sender<Result<Batch, Fault>>,
    ) -> Option<Result<Batch, Fault>> {
        let mut waits = self.gather.is_empty();
        loop {
            if waits {
                // What is left is part of something whose end has not come: it is read again.
                if let Some(fault) = self.ended.take() {
                    return Some(Err(fault));
                }
                match self.replies.recv().await? {
                    Ok(came) => self.push(came),
                    Err(fault) => self.ended = Some(fault),
                }
            }
            self.grow(batches).await?;
            match self.seal().await {
                Ok(Some(batch)) => return Some(Ok(self.chain(batch))),
                Ok(None) => waits = true,
                Err(fault) => return Some(Err(fault)),
            }
        }
    }

    /// Each batch says which one it follows, so that the applier would notice one that went
    /// missing.
    fn chain(&mut self, mut batch: Batch) -> Batch {
        batch.follows = self.last.clone();
        if batch.events > 0 {
            self.handed_on = Some(Instant::now());
        }
        if let Some(position) = &batch.commit.position {
            self.last = position.token.clone();
        }
        batch
    }

    /// Takes more replies in while the writer is busy, but no longer than `linger` after the batch
    /// before if that one has been taken.
    async fn grow(&mut self, batches: &mpsc::Sender<Result<Batch, Fault>>) -> Option<()> {
        let linger = self.group.settings.batch.linger;
        let linger = self.handed_on.map_or_else(Instant::now, |before| before + linger);
        let mut waits = self.writer_waits.clone();
        while !self.gather.is_empty() && !self.gather.is_full(self.limits) && self.ended.is_none() {
            let writer_is_ready = async {
                let permit = batches.reserve().await;
                tokio::select! {
                    () = tokio::time::sleep_until(linger) => {}
                    _ = waits.wait_for(|waits| *waits) => {}
                }
                permit.map(drop)
            };
            tokio::select! {
                biased;
                came = self.replies.recv() => match came? {
                    Ok(came) => self.push(came),
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

    fn push(&mut self, came: Came) {
        if let Err(error) = self.gather.push(came.reply, came.is_open) {
            self.ended = Some(Fault::new(
                Class::Halt,
                Code::SourceMisconfigured,
                format!("mongodb's events: {error}"),
                "",
            ));
        }
    }

    /// Turns what is gathered into a batch, halving it for as long as its documents are too large
    /// together. `None` if more has to come first.
    async fn seal(&mut self) -> Result<Option<Batch>, Fault> {
        let mut events_max = self.events_now;
        loop {
            let amid = self.gather.amid();
            let limits = BatchLimits { events: events_max, ..self.limits };
            let Some(taken) = self.gather.take(limits).map_err(unreadable)? else {
                return Ok(None);
            };
            match self.sealed(&taken).await? {
                Sealed::Batch(batch) => {
                    self.events_now = (self.events_now * 2).min(self.limits.events);
                    return Ok(Some(*batch));
                }
                Sealed::Stopped(stop) if stop.event == 0 => {
                    self.gather.give_back(&taken, amid);
                    return Ok(Some(self.halted(&taken, &stop)));
                }
                Sealed::Stopped(stop) => events_max = stop.event,
                Sealed::TooLarge => events_max = self.events_now,
            }
            self.gather.give_back(&taken, amid);
        }
    }

    /// A batch that ends before its first event stands for no new position.
    fn halted(&self, taken: &Taken, stop: &Stop) -> Batch {
        let halt = Some(self.stopped_by(stop, 0));
        let commit = Commit::default();
        let mut batch = batch_of(commit, taken);
        (batch.halt, batch.piece, batch.events) = (halt, Piece::Whole, 0);
        batch
    }

    async fn sealed(&mut self, taken: &Taken) -> Result<Sealed, Fault> {
        let events = &taken.events;
        let group = self.group.clone();
        let mut plan = block_in_place_if_many(events.len(), || plan(events, &group.routes));
        // Of one that is left out, its group goes on whatever becomes of its collection.
        let is_followed = |stop: &&Stop| stop.streams.iter().any(|one| !group.is_parked(*one));
        if let Some(stop) = plan.stops.iter().find(is_followed).filter(|_| !group.parks()) {
            return Ok(Sealed::Stopped(stop.clone()));
        }
        let left_out = leave_out(&mut plan, &group);
        let encoder = Encoder::new(&group, events, self.limits.bytes, plan.last_event);
        let span = span_of(&group, events.len());
        let encode = span.part("encode");
        let encoded = encoder.run(&plan).await?;
        drop(encode);
        let Some((mut works, told)) = encoded else {
            self.events_now = (events.len() / 2).max(1);
            return Ok(Sealed::TooLarge);
        };
        for work in &mut works {
            work.origins = Origins::Events(events.clone());
        }
        let stops = self.stops(&plan);
        let commit = Commit { works, span, ..Commit::default() };
        let last_event = plan.last_event;
        let mut batch = Batch { told, stops, left_out, last_event, ..batch_of(commit, taken) };
        let last = events.last().and_then(|last| Event::parse(last.bytes()).ok());
        batch.is_of_ours = last.is_some_and(|last| !group.routes.of(last.collection).is_empty());
        if taken.piece != Piece::More {
            batch.commit.position = Some(taken.position.clone());
        }
        Ok(Sealed::Batch(Box::new(batch)))
    }

    fn stops(&self, plan: &Plan<'_>) -> Vec<(usize, Fault)> {
        let mut stops = Vec::new();
        for stop in &plan.stops {
            stops.extend(
                stop.streams.iter().map(|stream| (*stream, self.stopped_by(stop, *stream))),
            );
        }
        stops
    }

    fn stopped_by(&self, stop: &Stop, stream: usize) -> Fault {
        let namespace = self.group.streams.get(stream).map(|stream| stream.namespace.to_string());
        let (namespace, name) = (namespace.unwrap_or_default(), &stop.name);
        match stop.operation {
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

/// Takes what is of parked streams out of a plan: how many events of each.
fn leave_out(plan: &mut Plan<'_>, group: &GroupContext) -> Vec<(usize, u64)> {
    let mut left_out = Vec::new();
    plan.streams.retain(|of| {
        let is_parked = group.is_parked(of.stream);
        if is_parked {
            left_out.push((of.stream, of.received.iter().sum()));
        }
        !is_parked
    });
    left_out
}

/// From now on, a batch of so many events.
fn span_of(group: &GroupContext, events: usize) -> Span {
    if events == 0 {
        return Span::default();
    }
    let mut span = Span::begin("batch");
    span.text("tidemark.group", &group.name);
    span.count("tidemark.events", crate::model::count(events));
    span
}

fn batch_of(commit: Commit, taken: &Taken) -> Batch {
    Batch {
        commit,
        piece: taken.piece,
        follows: taken.position.token.clone(),
        told: Vec::new(),
        stops: Vec::new(),
        left_out: Vec::new(),
        is_of_ours: false,
        events: taken.events.len(),
        last_event: None,
        halt: None,
    }
}

fn unreadable(error: crate::model::bson::Malformed) -> Fault {
    Fault::new(
        Class::Halt,
        Code::SourceMisconfigured,
        format!("an event without a readable token: {error}"),
        "",
    )
}
