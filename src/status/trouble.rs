//! What goes wrong in a stream, as it is told: steps that fail and are tried again, commits that fail, halts.

use std::time::Duration;

use chrono::Utc;

use super::report::FailingReport;
use super::stream::{State, Stream};
use crate::error::{Code, Fault};

/// Among the failing steps: writing goes on, fewer rows at once.
const PACED: &str = "pace";

impl State {
    /// These steps work again.
    pub(super) fn works(&mut self, steps: &[&str]) {
        self.failing.retain(|step, _| !steps.contains(step));
        self.show_failing();
    }

    /// Keeps what the report says of failing steps in line. A halted stream's reason is its halt's.
    pub(super) fn show_failing(&mut self) {
        let report = &mut self.report;
        report.failing = self.failing.values().cloned().collect();
        report.retrying = report.failing.iter().map(|failing| failing.attempts).max().unwrap_or_default();
        if report.halt_code.is_none() {
            let longest = report.failing.iter().min_by_key(|failing| failing.since);
            report.reason = longest.map(|failing| format!("{}: {}", failing.step, failing.reason));
        }
    }
}

impl Stream {
    /// The stream halted: a person must act.
    pub fn halted(&self, fault: &Fault) {
        let mut state = self.state();
        // A command that a hint names can be run as it stands.
        let hint = fault.hint.replace("STREAM", &self.name);
        let reason = if hint.is_empty() { fault.message.clone() } else { format!("{fault}; {hint}") };
        let again = state.report.phase == "halted" && state.report.reason.as_ref() == Some(&reason);
        if state.report.phase != "halted" {
            "halted".clone_into(&mut state.report.phase);
            state.report.phase_since = Utc::now();
        }
        state.after_probe = None;
        state.report.halt_code = Some(fault.code.name().to_owned());
        state.report.reason = Some(reason);
        state.report.failures += 1;
        state.failing.clear();
        state.show_failing();
        drop(state);
        self.show_phase("halted");
        if !again {
            tracing::error!(stream = %self.name, code = fault.code.name(), hint, "stream halted: {fault}");
        }
    }

    /// A commit failed.
    pub fn commit_failed(&self, fault: &Fault) {
        self.metrics.commit_failures.with_label_values(&[&*self.name, fault.class.name()]).inc();
    }

    /// A step failed and is tried again after `delay`.
    pub fn retries(&self, step: &'static str, attempt: u64, delay: Duration, fault: &Fault) {
        let mut state = self.state();
        let since = state.failing.get(step).map_or_else(Utc::now, |failing| failing.since);
        let (code, reason) = (fault.code.name().to_owned(), fault.message.clone());
        let failing = FailingReport { step: step.to_owned(), code, since, attempts: attempt, reason };
        state.failing.insert(step, failing);
        state.report.failures += 1;
        state.show_failing();
        drop(state);
        self.metrics.retries.with_label_values(&[&*self.name, step]).inc();
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(stream = %self.name, step, attempt, delay_ms, "will be tried again: {fault}");
    }

    /// Statements on the table hold so many rows at most, because more have run out of time;
    /// `None`: as many as there are. Told before the commit it was learnt from, so that it is known
    /// since when.
    pub fn paced(&self, rows_at_once: Option<usize>) {
        let mut state = self.state();
        let Some(rows) = rows_at_once else {
            if state.failing.contains_key(PACED) {
                state.works(&[PACED]);
            }
            return;
        };
        let slow = |known: &&FailingReport| known.code == Code::TargetSlow.name();
        let of = |step: &str| state.failing.get(step).filter(slow);
        let known = of(PACED).or_else(|| of("apply"));
        let failing = FailingReport {
            step: "apply".to_owned(),
            code: Code::TargetSlow.name().to_owned(),
            since: known.map_or_else(Utc::now, |known| known.since),
            attempts: known.map_or(1, |known| known.attempts),
            reason: format!("statements run longer than they may; {rows} rows are written at once"),
        };
        state.failing.insert(PACED, failing);
        state.show_failing();
    }

    /// What was failing works again.
    pub fn recovered(&self, steps: &[&'static str]) {
        let mut state = self.state();
        if state.report.halt_code.is_none() && !state.failing.is_empty() {
            state.works(steps);
        }
    }
}
