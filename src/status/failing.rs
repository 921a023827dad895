//! The steps of a stream, or of its group, that fail now and are tried again: each with its
//! attempts, and since when.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Utc;

use super::stream_report::FailingReport;
use crate::error::{Code, Fault};
use crate::model::step::Step;

/// What a failure is known by, from its first time to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    Of(Step),
    /// Writing goes on, fewer rows at once.
    Paced,
}

#[derive(Debug, Default)]
pub(in crate::status) struct Failing {
    failures: BTreeMap<Failure, FailingReport>,
    /// Those of them that failed before the stream was last taken up, and not since.
    before: BTreeSet<Failure>,
}

impl Failing {
    pub fn reports(&self) -> Vec<FailingReport> {
        self.failures.values().cloned().collect()
    }

    /// A step failed; `attempt` counts its failures since it last worked.
    pub fn failed(&mut self, step: Step, attempt: u64, fault: &Fault) {
        let known = self.failures.get(&Failure::Of(step));
        let since = known.map_or_else(Utc::now, |failing| failing.since);
        let (code, reason) = (fault.code.name().to_owned(), fault.message.clone());
        let failing = FailingReport { step, code, since, attempts: attempt, reason };
        self.failures.insert(Failure::Of(step), failing);
        self.before.remove(&Failure::Of(step));
    }

    /// So many rows are written at once, because more have run out of time; `None`: as many as
    /// there are. `writing` is how writing fails for the whole group. Says whether that is news.
    pub fn paced(&mut self, rows_at_once: Option<usize>, writing: Option<&FailingReport>) -> bool {
        let Some(rows) = rows_at_once else {
            return self.failures.remove(&Failure::Paced).is_some();
        };
        let slow = |known: &&FailingReport| known.code == Code::TargetSlow.name();
        let known = self.failures.get(&Failure::Paced).or_else(|| writing.filter(slow));
        let failing = FailingReport {
            step: Step::Apply,
            code: Code::TargetSlow.name().to_owned(),
            since: known.map_or_else(Utc::now, |known| known.since),
            attempts: known.map_or(1, |known| known.attempts),
            reason: format!("statements run longer than they may; {rows} rows are written at once"),
        };
        self.failures.insert(Failure::Paced, failing.clone()) != Some(failing)
    }

    /// Whether what was read of the source cannot be written at present.
    pub fn is_stuck(&self) -> bool {
        let steps = [Step::Lookup, Step::Apply];
        steps.iter().any(|step| self.failures.contains_key(&Failure::Of(*step)))
    }

    /// These steps work again. Says whether that is news.
    pub fn works(&mut self, steps: &[Step]) -> bool {
        let works =
            |failure: &Failure| matches!(failure, Failure::Of(step) if steps.contains(step));
        let before = self.failures.len();
        self.failures.retain(|failure, _| !works(failure));
        self.failures.len() < before
    }

    /// No step fails any more.
    pub fn clear(&mut self) {
        self.failures.clear();
    }

    /// It is taken up anew: what fails now failed before.
    pub fn taken_up(&mut self) {
        self.before = self.failures.keys().copied().collect();
    }

    /// It reads again: the steps that have not failed since it was taken up do not fail. Says
    /// whether that is news.
    pub fn forget_before(&mut self) -> bool {
        let before = std::mem::take(&mut self.before);
        self.failures.retain(|failure, _| !before.contains(failure));
        !before.is_empty()
    }
}
