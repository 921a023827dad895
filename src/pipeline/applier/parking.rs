//! Streams that cannot be followed for a cause of their own, or that a person told to stop for a
//! while: the group goes on without them, and looks now and then whether the cause is gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::Applier;
use crate::apply::{Applied, Commit, HoldsUp, held_up};
use crate::error::{Class, Code, Fault};
use crate::model::phase::Phase;
use crate::pipeline::context::GroupContext;
use crate::pipeline::preparer::Batch;
use crate::pipeline::start::LeftOut;
use crate::pipeline::{pause, unpark};

/// So many streams may be parked because their tables are slow, within so long.
const SLOW_MAX: usize = 3;
const SLOW_TOGETHER: Duration = Duration::from_secs(60);

/// So many neighbours are asked whether it is the server that is slow.
const NEIGHBOURS_MAX: usize = 2;

impl Applier<'_> {
    pub(super) fn is_parked(&self, stream: usize) -> bool {
        self.parked.get(stream).is_some_and(Option::is_some)
    }

    /// Whether a stream is to be parked for a fault of its own, rather than its group halted.
    pub(super) fn may_park(&self, stream: usize, fault: &Fault) -> bool {
        let is_its_own = match fault.class {
            Class::Halt => !matches!(
                fault.code,
                Code::TargetFull
                    | Code::TargetUnreachable
                    | Code::SourceUnreachable
                    | Code::SourceUnauthorised
                    | Code::SourceForeign
            ),
            Class::HistoryLost | Class::Record | Class::Unknown => true,
            Class::Transient => fault.code == Code::TargetSlow,
            Class::Fenced | Class::Rewound | Class::Bug => false,
        };
        self.group.parks() && !self.is_parked(stream) && is_its_own
    }

    /// The same of a fault that a commit met. Where the tables of several streams are slow or
    /// locked at once, it is the server that is.
    pub(super) fn is_to_be_parked(&mut self, stream: usize, fault: &Fault) -> bool {
        if !self.may_park(stream, fault) {
            return false;
        }
        if fault.class != Class::Transient {
            return true;
        }
        self.slow.retain(|(slow, at)| *slow != stream && at.elapsed() < SLOW_TOGETHER);
        self.slow.push((stream, Instant::now()));
        self.slow.len() <= SLOW_MAX
    }

    /// Whether it is this stream's table that is slow: one of its neighbours' takes rows in time.
    pub(super) async fn others_are_quick(&self, stream: usize) -> bool {
        let others = self
            .group
            .streams
            .iter()
            .filter(|other| other.place != stream && !self.is_parked(other.place));
        for other in others.take(NEIGHBOURS_MAX) {
            if unpark::is_quick(other).await {
                return true;
            }
        }
        false
    }

    /// Parks streams whose tables hold up the others, now that what they took is known.
    pub(super) async fn park_slow(
        &mut self,
        commit: &Commit,
        applied: &[Applied],
    ) -> Result<(), Fault> {
        for (work, done) in commit.works.iter().zip(applied) {
            if let Some(fault) = self.holds_up(work.stream, done) {
                self.park_alone(work.stream, fault).await?;
            }
        }
        Ok(())
    }

    /// Why a stream is to be parked whose table took so long once more.
    pub(super) fn holds_up(&mut self, stream: usize, done: &Applied) -> Option<Fault> {
        let now = std::time::Instant::now();
        let HoldsUp { statements, total } = self.slow_tables.note(now, stream, done.took)?;
        let fault = held_up(&format!(
            "{statements} statements for a few rows took {:.1} s within a minute",
            total.as_secs_f64()
        ));
        self.is_to_be_parked(stream, &fault).then_some(fault)
    }

    /// Parks a stream in a commit of its own.
    pub(super) async fn park_alone(&mut self, stream: usize, fault: Fault) -> Result<(), Fault> {
        let mut commit = Commit { parked: vec![(stream, fault)], ..Commit::default() };
        self.apply(&mut commit).await.map(drop)
    }

    /// A stream was parked, and the database says so.
    pub(super) fn parked(&mut self, stream: usize, fault: &Fault) {
        if let Some(parked) = self.parked.get_mut(stream) {
            *parked = Some(fault.code);
        }
        self.group.set_parked(stream, true);
        self.walks.remove(stream);
        self.is_to_be_noted = true;
        if let Some(context) = self.group.streams.get(stream) {
            context.proved.store(false, Ordering::Relaxed);
            context.parked_times.fetch_add(1, Ordering::Relaxed);
            context.status.parked(fault);
        }
        self.probe();
    }

    /// Looks at parked streams until one of them may go on, and waits for the end of pauses.
    pub(super) fn probe(&mut self) {
        let is_paused = |stream| self.paused.iter().any(|(paused, _)| *paused == stream);
        let streams = self.group.streams.iter().zip(&self.parked);
        let streams = streams.filter(|(context, _)| !is_paused(context.place));
        let parked = streams.filter_map(|(context, code)| Some((context.clone(), (*code)?)));
        let parked: Vec<_> = parked.collect();
        self.prober.abort_all();
        self.prober = tokio::task::JoinSet::new();
        if !parked.is_empty() {
            self.prober.spawn(unpark::until_one_may_go_on(parked));
        }
        if let Some(until) = self.paused.iter().map(|(_, pause)| pause.until).min() {
            self.prober.spawn(pause::until_over(until));
        }
    }
}

/// By stream: why the group goes on without it from its start, if it does. The streams are told.
pub(super) fn left_out_at_start(group: &GroupContext, left_out: &LeftOut) -> Vec<Option<Code>> {
    let mut parked = vec![None; group.streams.len()];
    for (stream, pause) in &left_out.paused {
        if let Some(slot) = parked.get_mut(*stream) {
            *slot = Some(Code::StreamParked);
        }
        if let Some(context) = group.streams.get(*stream) {
            context.status.walking(None);
            context.status.paused(&pause.to_string());
        }
    }
    for (stream, fault) in &left_out.parked {
        if let Some(slot) = parked.get_mut(*stream) {
            *slot = Some(fault.code);
        }
        if let Some(context) = group.streams.get(*stream) {
            context.status.parked(fault);
        }
    }
    for (stream, context) in group.streams.iter().enumerate() {
        let is_parked = parked.get(stream).is_some_and(Option::is_some);
        group.set_parked(stream, is_parked);
        if !is_parked {
            context.status.entered(Phase::Streaming);
        }
    }
    parked
}

/// Takes what is of parked streams out of a batch that was prepared before they were.
pub(super) fn leave_parked_out(group: &GroupContext, parked: &[Option<Code>], batch: &mut Batch) {
    let is_parked = |stream: usize| parked.get(stream).is_some_and(Option::is_some);
    let works = batch.commit.works.iter().filter(|work| is_parked(work.stream));
    batch.left_out.extend(works.map(|work| (work.stream, work.events)));
    batch.stops.retain(|(stream, _)| !is_parked(*stream));
    batch.commit.works.retain(|work| !is_parked(work.stream));
    batch.told.retain(|told| !is_parked(told.stream));
    for (stream, events) in batch.left_out.drain(..) {
        if let Some(context) = group.streams.get(stream) {
            context.status.left_out(events);
        }
    }
}
