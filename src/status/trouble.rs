//! What goes wrong in a stream, as it is told: steps that fail and are tried again, commits that
//! fail, halts.

use std::time::Duration;

use chrono::Utc;

use super::report::FailingReport;
use super::stream::{State, Stream};
use crate::error::{Code, Fault};
use crate::model::phase::Phase;
use crate::model::step::Step;

/// What a failure is known by, from its first time to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    Of(Step),
    /// Writing goes on, fewer rows at once.
    Paced,
}

impl State {
    /// These steps work again.
    pub(super) fn works(&mut self, steps: &[Step]) {
        let works =
            |failure: &Failure| matches!(failure, Failure::Of(step) if steps.contains(step));
        self.failing.retain(|failure, _| !works(failure));
        self.show_failing();
    }

    /// The stream reads again, and these steps have not failed since it was taken up anew.
    pub(super) fn forget_failed_before(&mut self) {
        let before = std::mem::take(&mut self.failed_before);
        if !before.is_empty() {
            self.failing.retain(|step, _| !before.contains(step));
            self.show_failing();
        }
    }

    /// Keeps what the report says of failing steps in line. A halted stream's reason is its halt's.
    pub(super) fn show_failing(&mut self) {
        let report = &mut self.report;
        report.failing = self.failing.values().cloned().collect();
        report.retrying =
            report.failing.iter().map(|failing| failing.attempts).max().unwrap_or_default();
        if report.halt_code.is_none() {
            let longest = report.failing.iter().min_by_key(|failing| failing.since);
            report.reason = longest.map(|failing| format!("{}: {}", failing.step, failing.reason));
        }
    }
}

impl Stream {
    /// The stream is taken up anew: nobody is left to say that a step works again which failed
    /// until now. Each is kept until the stream reads again, so that what goes on failing is known
    /// since when.
    pub fn taken_up(&self) {
        let mut state = self.state();
        state.failed_before = state.failing.keys().copied().collect();
    }

    /// The stream halted: a person must act.
    pub fn halted(&self, fault: &Fault) {
        let mut state = self.state();
        // A command that a hint names can be run as it stands.
        let hint = fault.hint.replace("STREAM", &self.name);
        let reason =
            if hint.is_empty() { fault.message.clone() } else { format!("{fault}; {hint}") };
        let again =
            state.report.phase == Phase::Halted && state.report.reason.as_ref() == Some(&reason);
        if state.report.phase != Phase::Halted {
            state.report.phase = Phase::Halted;
            state.report.phase_since = Utc::now();
        }
        state.after_probe = None;
        state.report.halt_code = Some(fault.code.name().to_owned());
        state.report.reason = Some(reason);
        state.report.failures += 1;
        state.failing.clear();
        state.show_failing();
        drop(state);
        self.show_phase(Phase::Halted);
        if !again {
            tracing::error!(
                stream = %self.name,
                code = fault.code.name(),
                hint,
                "stream halted: {fault}"
            );
        }
    }

    /// A commit failed.
    pub fn commit_failed(&self, fault: &Fault) {
        self.metrics.commit_failures.with_label_values(&[&*self.name, fault.class.name()]).inc();
    }

    /// A step failed and is tried again after `delay`.
    pub fn retries(&self, step: Step, attempt: u64, delay: Duration, fault: &Fault) {
        let mut state = self.state();
        let since =
            state.failing.get(&Failure::Of(step)).map_or_else(Utc::now, |failing| failing.since);
        let (code, reason) = (fault.code.name().to_owned(), fault.message.clone());
        let failing = FailingReport { step, code, since, attempts: attempt, reason };
        state.failing.insert(Failure::Of(step), failing);
        state.failed_before.remove(&Failure::Of(step));
        state.report.failures += 1;
        state.show_failing();
        drop(state);
        self.metrics.retries.with_label_values(&[&*self.name, step.name()]).inc();
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            stream = %self.name,
            step = step.name(),
            attempt,
            delay_ms,
            "will be tried again: {fault}"
        );
    }

    /// Statements on the table hold so many rows at most, because more have run out of time;
    /// `None`: as many as there are. Told before the commit it was learnt from, so that it is known
    /// since when.
    pub fn paced(&self, rows_at_once: Option<usize>) {
        let mut state = self.state();
        let Some(rows) = rows_at_once else {
            if state.failing.remove(&Failure::Paced).is_some() {
                state.show_failing();
            }
            return;
        };
        let slow = |known: &&FailingReport| known.code == Code::TargetSlow.name();
        let of = |failure| state.failing.get(&failure).filter(slow);
        let known = of(Failure::Paced).or_else(|| of(Failure::Of(Step::Apply)));
        let failing = FailingReport {
            step: Step::Apply,
            code: Code::TargetSlow.name().to_owned(),
            since: known.map_or_else(Utc::now, |known| known.since),
            attempts: known.map_or(1, |known| known.attempts),
            reason: format!("statements run longer than they may; {rows} rows are written at once"),
        };
        state.failing.insert(Failure::Paced, failing);
        state.show_failing();
    }

    /// The lease lasts anew.
    pub fn renewed(&self) {
        let mut state = self.state();
        if state.failing.contains_key(&Failure::Of(Step::Lease)) {
            state.works(&[Step::Lease]);
        }
    }

    /// What was failing works again.
    pub fn recovered(&self, steps: &[Step]) {
        let mut state = self.state();
        if state.report.halt_code.is_none() && !state.failing.is_empty() {
            state.works(steps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;
    use crate::status::Answer;
    use crate::status::metrics::Metrics;

    fn fails(stream: &Stream, step: Step) {
        let fault = Fault::new(Class::Transient, Code::SourceUnreachable, "the cursor ended", "");
        stream.retries(step, 1, Duration::ZERO, &fault);
    }

    #[test]
    fn a_step_that_failed_before_the_stream_was_taken_up_anew_is_forgotten_once_it_reads() {
        let metrics = std::sync::Arc::new(Metrics::new(&["doctor".to_owned()]));
        let stream = Stream::new("doctor", "db.doctors", "public.doctor", &metrics);
        fails(&stream, Step::Read);
        fails(&stream, Step::Walk);
        stream.taken_up();
        fails(&stream, Step::Walk);
        let failing = |stream: &Stream| -> Vec<Step> {
            stream.report().failing.into_iter().map(|failing| failing.step).collect()
        };
        stream.polled(None, true, Answer::Opened);
        assert_eq!(
            failing(&stream),
            [Step::Read, Step::Walk],
            "an answer that may be a lost position's"
        );
        stream.polled(None, true, Answer::Still);
        assert_eq!(failing(&stream), [Step::Walk], "it has failed since");
        stream.taken_up();
        stream.polled(None, true, Answer::Moved);
        assert_eq!(failing(&stream), []);
    }
}
