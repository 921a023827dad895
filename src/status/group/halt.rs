//! What goes wrong for all streams of a group, as it is told: steps that fail and are tried again,
//! commits that fail, halts.

use std::time::Duration;

use chrono::Utc;

use super::Group;
use crate::error::Fault;
use crate::model::phase::Phase;
use crate::model::step::Step;
use crate::status::stream_report::FailingReport;

impl Group {
    /// The group is taken up anew: nobody is left to say that a step works again which failed until
    /// now. Each is kept until the group reads again, so that what goes on failing is known since
    /// when.
    pub fn taken_up(&self) {
        self.state().failing.taken_up();
    }

    /// The group halted: a person must act.
    pub fn halted(&self, fault: &Fault) {
        let mut state = self.state();
        // A command that a hint names can be run as it stands, where only one stream can be meant.
        let stream = self.inner.alone.as_deref().unwrap_or("STREAM");
        let hint = fault.hint.replace("STREAM", stream);
        let reason =
            if hint.is_empty() { fault.message.clone() } else { format!("{fault}; {hint}") };
        let again =
            state.report.phase == Phase::Halted && state.report.reason.as_ref() == Some(&reason);
        if state.report.phase != Phase::Halted {
            (state.report.phase, state.report.phase_since) = (Phase::Halted, Utc::now());
        }
        state.after_probe = None;
        state.report.halt_code = Some(fault.code.name().to_owned());
        state.report.reason = Some(reason);
        state.report.failures += 1;
        state.failing.clear();
        state.show_failing();
        drop(state);
        if !again {
            let code = fault.code.name();
            tracing::error!(group = self.name(), code, hint, "group halted: {fault}");
        }
    }

    /// A commit failed.
    pub fn commit_failed(&self, fault: &Fault) {
        let failures = &self.inner.metrics.batches.commit_failures;
        for label in &self.inner.labels {
            failures.with_label_values(&[label, fault.class.name()]).inc();
        }
    }

    /// A step failed for all streams and will be tried again after `delay`.
    pub fn retries(&self, step: Step, attempt: u64, delay: Duration, fault: &Fault) {
        let mut state = self.state();
        state.failing.failed(step, attempt, fault);
        state.report.failures += 1;
        state.show_failing();
        drop(state);
        for label in &self.inner.labels {
            let retries = &self.inner.metrics.streams.retries;
            retries.with_label_values(&[label.as_str(), step.name()]).inc();
        }
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::warn!(
            group = self.name(),
            step = step.name(),
            attempt,
            delay_ms,
            "will be tried again: {fault}"
        );
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

    /// How this step fails now.
    pub(in crate::status) fn failing(&self, step: Step) -> Option<FailingReport> {
        self.state().report.failing.iter().find(|failing| failing.step == step).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::{Class, Code};
    use crate::model::position::{ClusterTime, Position, ResumeToken};
    use crate::status::metrics::Metrics;
    use crate::status::{Answer, GroupReport};

    fn group() -> Group {
        let streams = ["doctor", "recommendation"].map(str::to_owned);
        let metrics = Arc::new(Metrics::new(&[("main", &streams)]));
        Group::new("main", &streams, &metrics)
    }

    fn fails(group: &Group, step: Step) {
        let fault = Fault::new(Class::Transient, Code::SourceUnreachable, "the cursor ended", "");
        group.retries(step, 1, Duration::ZERO, &fault);
    }

    #[test]
    fn while_what_was_read_cannot_be_written_the_lag_grows_with_the_sources_clock() {
        let time = |seconds: u64| ClusterTime::new(seconds << 32);
        let group = group();
        let token = ResumeToken::of_text("82");
        group.placed(&Position { token, cluster_time: time(1_000) });
        group.polled(Some(time(1_004)), true, Answer::Moved);
        group.applied(time(1_100));
        let lag = |group: &Group| Duration::from_secs_f64(group.report().lag_seconds).as_secs();
        assert_eq!(lag(&group), 0, "nothing more is to be read");
        for step in [Step::Lookup, Step::Apply] {
            fails(&group, step);
            group.applied(time(1_180));
            assert_eq!(lag(&group), 180, "{step:?}");
            group.recovered(&[step]);
            group.polled(Some(time(1_180)), true, Answer::Still);
            assert_eq!(lag(&group), 0);
        }
    }

    #[test]
    fn a_step_that_failed_before_the_group_was_taken_up_anew_is_forgotten_once_it_reads() {
        let group = group();
        fails(&group, Step::Read);
        fails(&group, Step::Lookup);
        group.taken_up();
        fails(&group, Step::Lookup);
        let failing = |group: &Group| -> Vec<Step> {
            group.report().failing.into_iter().map(|failing| failing.step).collect()
        };
        group.polled(None, true, Answer::Opened);
        assert_eq!(
            failing(&group),
            [Step::Lookup, Step::Read],
            "an answer that may be a lost position's"
        );
        group.polled(None, true, Answer::Still);
        assert_eq!(failing(&group), [Step::Lookup], "it has failed since");
        group.taken_up();
        group.polled(None, true, Answer::Moved);
        assert_eq!(failing(&group), []);
    }

    #[test]
    fn a_halted_group_shows_what_it_entered_once_something_is_proved() {
        let position = Position {
            token: ResumeToken::of_text("82"),
            cluster_time: ClusterTime::new(1_000 << 32),
        };
        for is_commit in [true, false] {
            let group = group();
            let refused = Fault::new(Class::Halt, Code::SourceUnauthorised, "no rights", "");
            group.halted(&refused);
            group.entered(Phase::Resuming);
            group.entered(Phase::Streaming);
            assert_eq!(group.report().phase, Phase::Halted, "nothing is proved yet");
            if is_commit {
                group.positioned(&position, 1, Duration::ZERO);
            } else {
                group.polled(None, true, Answer::Still);
            }
            let GroupReport { phase, halt_code, reason, .. } = group.report();
            assert_eq!((phase, halt_code, reason), (Phase::Streaming, None, None));
        }
    }
}
