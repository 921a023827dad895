//! What goes wrong in a stream, as it is told: steps that fail and are tried again, commits that
//! fail, halts.

use std::time::Duration;

use chrono::Utc;

use super::Stream;
use crate::error::Fault;
use crate::model::phase::Phase;
use crate::model::step::Step;

impl Stream {
    /// The stream is taken up anew: nobody is left to say that a step works again which failed
    /// until now. Each is kept until the stream reads again, so that what goes on failing is known
    /// since when.
    pub fn taken_up(&self) {
        self.state().failing.taken_up();
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
        self.metrics
            .batches
            .commit_failures
            .with_label_values(&[&*self.name, fault.class.name()])
            .inc();
    }

    /// A step failed and is tried again after `delay`.
    pub fn retries(&self, step: Step, attempt: u64, delay: Duration, fault: &Fault) {
        let mut state = self.state();
        state.failing.failed(step, attempt, fault);
        state.report.failures += 1;
        state.show_failing();
        drop(state);
        self.metrics.streams.retries.with_label_values(&[&*self.name, step.name()]).inc();
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
        state.failing.paced(rows_at_once);
        state.show_failing();
    }

    /// The lease lasts anew.
    pub fn renewed(&self) {
        self.state().works(&[Step::Lease]);
    }

    /// What was failing works again.
    pub fn recovered(&self, steps: &[Step]) {
        let mut state = self.state();
        if state.report.halt_code.is_none() {
            state.works(steps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Code};
    use crate::status::Answer;
    use crate::status::StreamNames;
    use crate::status::metrics::Metrics;

    fn fails(stream: &Stream, step: Step) {
        let fault = Fault::new(Class::Transient, Code::SourceUnreachable, "the cursor ended", "");
        stream.retries(step, 1, Duration::ZERO, &fault);
    }

    #[test]
    fn a_step_that_failed_before_the_stream_was_taken_up_anew_is_forgotten_once_it_reads() {
        let metrics = std::sync::Arc::new(Metrics::new(&["doctor".to_owned()]));
        let [name, source, table] = ["doctor", "db.doctors", "public.doctor"].map(str::to_owned);
        let stream = Stream::new(&StreamNames { name, source, table }, &metrics);
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
