//! Positions read while the group is silent: committed when they are due, when somebody waits for
//! them, or with those of other groups.

use std::time::Duration;

use super::{Applier, Stopped};
use crate::apply::Commit;
use crate::error::Fault;

/// So many tables are looked at with one idle commit.
const LOOKS_MAX: usize = 50;

impl Applier<'_> {
    pub(super) async fn commit_idle(&mut self) -> Result<(), Stopped> {
        let Some(position) = self.idle.take() else { return Ok(()) };
        let is_of_no_event = position.token.is_of_no_event();
        let looks = self.next_to_look_at();
        let mut commit = Commit { looks, ..Commit::to(position) };
        self.apply(&mut commit).await?;
        if let Some(position) = &commit.position {
            self.group.status.positioned(position, 0, Duration::ZERO);
        }
        // Nothing is bound any more to collections that no stream follows.
        if is_of_no_event && self.group.lets_others_through() {
            return Err(Stopped::Again);
        }
        Ok(())
    }

    /// Whether a table is what the source was at the idle position, and is not said to be before
    /// that is committed. Readers need not wait for the interval.
    pub(super) fn makes_exact(&self) -> bool {
        let Some(idle) = self.idle.as_ref().map(|position| position.cluster_time) else {
            return false;
        };
        let mut unparked = self.ahead.iter().zip(&self.parked).filter(|(_, why)| why.is_none());
        unparked.any(|(ahead, _)| self.committed < *ahead && *ahead <= idle)
    }

    /// Tables that are looked at with an idle commit: some at a time, each in its turn, and none
    /// that is walked, since its walk finds out anyhow.
    fn next_to_look_at(&mut self) -> Vec<usize> {
        let number = self.group.streams.len();
        let some = (0..number.min(LOOKS_MAX)).map(|place| (self.looked + place) % number);
        let looks =
            some.filter(|stream| !self.is_parked(*stream) && self.walks.beside(*stream).is_none());
        let looks = looks.collect();
        self.looked = (self.looked + LOOKS_MAX) % number.max(1);
        looks
    }

    /// What was begun is finished already; the last idle position is made durable. Where the target
    /// is away just then nothing is lost: what comes after the stored position is read again.
    pub(super) async fn drain(&mut self) -> Result<(), Fault> {
        let Some(position) = self.idle.take() else { return Ok(()) };
        match self.writer.apply(&Commit::to(position)).await {
            Err(setback) if setback.fault.class.may_retry() => {
                let fault = setback.fault;
                tracing::info!(group = self.lease.group(), "idle position not committed: {fault}");
                Ok(())
            }
            applied => applied.map(drop).map_err(|setback| setback.fault),
        }
    }
}
