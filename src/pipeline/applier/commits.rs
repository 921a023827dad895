//! Commits, over as many attempts as it takes; with the tables that cannot be written left out.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::Applier;
use crate::apply::{Applied, Commit, Setback};
use crate::error::{Class, Fault};
use crate::model::phase::Phase;
use crate::model::position::ClusterTime;
use crate::model::step::Step;
use crate::retry::Backoff;

impl Applier<'_> {
    /// Commits, over as many attempts as it takes. A table that cannot be written is parked with
    /// it, where the group has others: its work is taken out of the commit. Told to stop or fenced
    /// meanwhile, it gives up.
    pub(super) async fn apply(&mut self, commit: &mut Commit) -> Result<Vec<Applied>, Fault> {
        self.walks.stand_beside(commit);
        commit.after = Some(self.committed);
        let signals = self.signals;
        let mut backoff = Backoff::new(self.group.settings.retry);
        let applied = loop {
            let Setback { stream, fault, held_up } = match self.try_apply(commit).await {
                Ok(applied) => break applied,
                Err(setback) => setback,
            };
            if let Some(stream) = stream
                && (!held_up || self.others_are_quick(stream).await)
                && self.is_to_be_parked(stream, &fault)
            {
                commit.works.retain(|work| work.stream != stream);
                commit.looks.retain(|looked| *looked != stream);
                commit.parked.push((stream, fault));
                continue;
            }
            if held_up {
                self.writer.lift_limit();
                continue;
            }
            let waited = tokio::select! {
                biased;
                () = signals.end(), if fault.class.may_retry() => Err(fault),
                waited = self.group.wait_or_give_up(Step::Apply, &mut backoff, fault.clone())
                    => waited,
            };
            waited.map_err(|fault| self.gave_up(fault))?;
        };
        for work in &commit.works {
            if let Some(context) = self.group.streams.get(work.stream) {
                context.status.paced(self.writer.rows_at_once(work.stream));
            }
        }
        self.landed(commit).await;
        Ok(applied)
    }

    /// What was committed is so from now on.
    pub(super) async fn landed(&mut self, commit: &Commit) {
        if let Some(position) = &commit.position {
            self.positioned_at = Instant::now();
            self.committed = position.cluster_time;
        }
        for work in &commit.works {
            if let Some(until) = work.ahead {
                self.ahead_until(work.stream, until);
            }
        }
        if let Some(amid) = commit.amid {
            (0..self.ahead.len()).for_each(|stream| self.ahead_until(stream, amid));
        }
        for (stream, fault) in &commit.parked {
            self.parked(*stream, fault);
        }
        self.show_exact();
        self.note_phases().await;
        if std::mem::take(&mut self.was_halted)
            && let Err(fault) = self.group.state.note_halt(self.lease, None).await
        {
            self.was_halted = true;
            tracing::warn!(group = self.lease.group(), "end of the halt not written down: {fault}");
        }
    }

    /// A stream's rows may be of any time up to this one, also once its walk is completed. While it
    /// is walked they are of no time that can be told, which is later.
    pub(super) fn ahead_until(&mut self, stream: usize, until: ClusterTime) {
        if let (Some(ahead), Some(read)) = (self.ahead.get_mut(stream), self.reads.get_mut(stream))
        {
            (*ahead, *read) = ((*ahead).max(until), (*read).max(until));
        }
    }

    async fn try_apply(&mut self, commit: &Commit) -> Result<Vec<Applied>, Setback> {
        let applied = tokio::select! {
            biased;
            () = self.signals.lost.cancelled() => Err(Fault::fenced(self.lease.group()).into()),
            result = self.writer.apply(commit) => result,
        };
        applied.inspect_err(|setback| self.group.status.commit_failed(&setback.fault))
    }

    /// The walk of a stream is completed: its rows are of no later time than its last read.
    pub(super) async fn completed(&mut self, stream: usize) {
        if let (Some(ahead), Some(read)) = (self.ahead.get_mut(stream), self.reads.get(stream)) {
            *ahead = *read;
        }
        if let Some(context) = self.group.streams.get(stream) {
            context.status.entered(Phase::Streaming);
            context.parked_times.store(0, Ordering::Relaxed);
        }
        self.is_to_be_noted = true;
        self.show_exact();
        self.note_phases().await;
    }

    /// Says of each stream whether its table is what the source was at the position.
    pub(super) fn show_exact(&mut self) {
        let (committed, parked) = (self.committed, &self.parked);
        let now = self
            .ahead
            .iter()
            .zip(parked)
            .map(|(ahead, parked)| parked.is_none() && *ahead <= committed);
        for ((context, shown), exact) in self.group.streams.iter().zip(&mut self.exact).zip(now) {
            if *shown != Some(exact) {
                *shown = Some(exact);
                context.status.level(exact);
            }
        }
    }

    /// The fault where no other try is made. If one could be, the pipeline was told to end while
    /// the target is away: nothing more can be committed here, and nothing is lost by it.
    pub(super) fn gave_up(&self, fault: Fault) -> Fault {
        if !fault.class.may_retry() {
            fault
        } else if self.signals.lost.is_cancelled() {
            Fault::fenced(self.lease.group())
        } else {
            Fault { class: Class::Halt, ..fault }
        }
    }

    /// Writes down the phases that have changed, for people who ask the database; the data path
    /// does not depend on it.
    pub(super) async fn note_phases(&mut self) {
        if !std::mem::take(&mut self.is_to_be_noted) {
            return;
        }
        let mut changed: Vec<(&str, Phase)> = Vec::new();
        let group = self.group;
        for (context, noted) in group.streams.iter().zip(&mut self.noted) {
            let phase = context.status.own_phase();
            let is_left_out = matches!(phase, Phase::Parked | Phase::Paused);
            if *noted != Some(phase) && !is_left_out {
                changed.push((&context.config.name, phase));
            }
            *noted = Some(phase);
        }
        if changed.is_empty() {
            return;
        }
        if let Err(fault) = group.state.note_phases(self.lease, &changed).await {
            tracing::warn!(group = self.lease.group(), "phases not written down: {fault}");
            self.noted.fill(None);
            self.is_to_be_noted = true;
        }
    }
}
