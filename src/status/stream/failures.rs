//! What goes wrong in a stream alone, as it is told: steps of its walk that fail and are tried
//! again, statements on its table that are slow, what parks it; and that it
//! is paused.

use std::time::Duration;

use chrono::Utc;

use super::Stream;
use crate::error::Fault;
use crate::model::phase::Phase;
use crate::model::shown::shown;
use crate::model::step::Step;

impl Stream {
    /// It cannot be followed for a cause of its own, and its group goes on without it.
    pub fn parked(&self, fault: &Fault) {
        let mut state = self.change();
        let hint = fault.hint.replace("STREAM", self.name());
        let reason =
            if hint.is_empty() { fault.message.clone() } else { format!("{fault}; {hint}") };
        let report = &mut state.report;
        let again = report.phase == Phase::Parked && report.reason.as_ref() == Some(&reason);
        if report.phase != Phase::Parked {
            (report.phase, report.phase_since) = (Phase::Parked, Utc::now());
        }
        report.halt_code = Some(fault.code.name().to_owned());
        report.reason = Some(reason);
        report.failures += 1;
        state.level = false;
        state.show_exact();
        state.failing.clear();
        state.show_failing();
        drop(state);
        if !again {
            let code = fault.code.name();
            tracing::error!(stream = self.name(), code, hint, "stream parked: {fault}");
        }
    }

    /// A person told it to stop for a while, and its group goes on without it; `how` says until
    /// when, who, and why.
    pub fn paused(&self, how: &str) {
        let mut state = self.change();
        let report = &mut state.report;
        let again = report.phase == Phase::Paused && report.reason.as_deref() == Some(how);
        if report.phase != Phase::Paused {
            (report.phase, report.phase_since) = (Phase::Paused, Utc::now());
        }
        (report.exact, report.halt_code) = (false, None);
        report.reason = Some(how.to_owned());
        state.failing.clear();
        state.show_failing();
        drop(state);
        if !again {
            let phase = Phase::Paused.name();
            tracing::warn!(stream = self.name(), phase, "stream {}", shown(how));
        }
    }

    /// A step failed and will be tried again after `delay`. Any but a walk's fails for the whole
    /// group.
    pub fn retries(&self, step: Step, attempt: u64, delay: Duration, fault: &Fault) {
        if !step.is_of_walk() {
            return self.inner.group.retries(step, attempt, delay, fault);
        }
        let mut state = self.change();
        state.failing.failed(step, attempt, fault);
        state.report.failures += 1;
        state.show_failing();
        drop(state);
        let retries = &self.inner.metrics.streams.retries;
        retries.with_label_values(&[self.inner.label.as_str(), step.name()]).inc();
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            stream = self.name(),
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
        let writing = rows_at_once.and_then(|_| self.inner.group.failing(Step::Apply));
        let mut state = self.state();
        if state.failing.paced(rows_at_once, writing.as_ref()) {
            drop(state);
            self.change().show_failing();
        }
    }

    /// What was failing works again.
    pub fn recovered(&self, steps: &[Step]) {
        self.inner.group.recovered(steps);
        if steps.iter().any(|step| step.is_of_walk()) {
            self.change().works(steps);
        }
    }

    /// Nobody leads it here any more: what failed here is the next leader's to tell.
    pub fn given_up(&self) {
        let mut state = self.change();
        state.failing.clear();
        state.show_failing();
    }
}
