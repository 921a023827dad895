//! One stream's state, told event by event. Each method is one thing that happened: state, metric
//! and log together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::drift::Fields;
use super::majority::Majority;
use super::metrics::{Metrics, Series};
use super::report::{FailingReport, PositionReport, StreamReport};
use super::told::{Answer, Committed};
use super::trouble::Failure;
use crate::error::Code;
use crate::model::history_window::HistoryWindow;
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, Position};
use crate::model::step::Step;

/// A handle on one stream's state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stream {
    pub(super) name: Arc<str>,
    pub(super) metrics: Arc<Metrics>,
    series: Series,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) report: StreamReport,
    position: Option<Position>,
    /// The source's majority commit point, as last heard.
    source_time: Option<ClusterTime>,
    caught_up: bool,
    majority: Majority,
    horizon: Option<HistoryWindow>,
    /// The phase to show once a probe of a halted stream has proved something.
    pub(super) after_probe: Option<Phase>,
    pub(super) fields: Fields,
    /// The steps that fail now.
    pub(super) failing: BTreeMap<Failure, FailingReport>,
    /// Those of them that failed before the stream was last taken up, and not since.
    pub(super) failed_before: BTreeSet<Failure>,
}

impl Stream {
    pub(super) fn new(name: &str, source: &str, table: &str, metrics: &Arc<Metrics>) -> Self {
        let report = StreamReport::new(name, source, table);
        let state = State {
            report,
            position: None,
            source_time: None,
            caught_up: false,
            majority: Majority::default(),
            horizon: None,
            after_probe: None,
            fields: Fields::default(),
            failing: BTreeMap::new(),
            failed_before: BTreeSet::new(),
        };
        let stream = Self {
            name: name.into(),
            metrics: Arc::clone(metrics),
            series: Series::of(metrics, name),
            state: Arc::new(Mutex::new(state)),
        };
        stream.show_phase(Phase::Standby);
        stream
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn report(&self) -> StreamReport {
        let state = self.state();
        let (drift, fields) = (state.fields.drift(), state.fields.report());
        StreamReport { drift, fields, ..state.report.clone() }
    }

    pub fn leads(&self) -> bool {
        self.state().report.leader
    }

    pub(super) fn show_phase(&self, now: Phase) {
        for phase in Phase::ALL {
            self.metrics
                .stream_phase
                .with_label_values(&[&*self.name, phase.name()])
                .set(i64::from(phase == now));
        }
    }

    /// The stream entered a phase other than `halted`. A halted stream that is probed shows as
    /// halted until the probe has proved something, so that what a person sees does not flap.
    pub fn entered(&self, phase: Phase) {
        let mut state = self.state();
        if state.report.halt_code.is_some() && !matches!(phase, Phase::Standby | Phase::Draining) {
            state.after_probe = Some(phase);
            return;
        }
        self.show(state, phase);
    }

    fn show(&self, mut state: MutexGuard<'_, State>, phase: Phase) {
        state.after_probe = None;
        state.report.halt_code = None;
        state.show_failing();
        if state.report.phase == phase {
            return;
        }
        state.report.phase = phase;
        state.report.phase_since = Utc::now();
        drop(state);
        self.show_phase(phase);
        tracing::info!(stream = %self.name, phase = phase.name(), "phase entered");
    }

    /// A commit, or a reply that says the stream is caught up: whatever halted it is mended.
    fn proved(&self) {
        let mut state = self.state();
        if let Some(phase) = state.after_probe.take() {
            state.failing.clear();
            self.show(state, phase);
        }
    }

    pub fn granted(&self, epoch: i64, holder: &str) {
        let mut state = self.state();
        (state.report.leader, state.report.epoch, state.report.holder) =
            (true, epoch, Some(holder.to_owned()));
        drop(state);
        self.metrics.lease_held.with_label_values(&[&*self.name]).set(1);
        self.metrics.lease_epoch.with_label_values(&[&*self.name]).set(epoch);
        tracing::info!(stream = %self.name, epoch, "lease granted");
    }

    pub fn lease_ended(&self) {
        let mut state = self.state();
        state.report.leader = false;
        state.failing.clear();
        state.show_failing();
        drop(state);
        self.metrics.lease_held.with_label_values(&[&*self.name]).set(0);
    }

    /// Another process leads the stream; `told` is what it last reported of it.
    pub fn led_by(&self, holder: Option<String>, epoch: i64, told: Option<StreamReport>) {
        let mut state = self.state();
        (state.caught_up, state.source_time, state.position) = (false, None, None);
        state.majority = Majority::default();
        let report = &mut state.report;
        (report.holder, report.epoch) = (holder, epoch);
        if let Some(told) = told {
            report.position = told.position;
            report.last_poll_at = told.last_poll_at;
            report.last_commit_at = told.last_commit_at;
            report.last_event_at = told.last_event_at;
            report.history_window_seconds = told.history_window_seconds;
            report.headroom_seconds = told.headroom_seconds;
            report.lag_seconds = told.lag_seconds;
            report.unconfirmed_since = told.unconfirmed_since;
            report.resync = told.resync;
        }
    }

    /// What the stream's last leader left, for what a new one cannot know.
    pub fn remembers(&self, told: &StreamReport) {
        let mut state = self.state();
        state.report.last_event_at = state.report.last_event_at.max(told.last_event_at);
        state.fields.remember(&told.fields, &told.drift);
    }

    /// Work was given up because another process was granted the stream.
    pub fn fenced(&self) {
        self.metrics.fenced_commits.with_label_values(&[&*self.name]).inc();
        tracing::warn!(stream = %self.name, "fenced: another process was granted this stream");
    }

    /// Postgres went back to an earlier state.
    pub fn rewound(&self, how: &str) {
        self.state().report.rewound_at = Some(Utc::now());
        let code = Code::TargetRewound.name();
        tracing::warn!(stream = %self.name, code, "taking up what the database says: {how}");
    }

    /// The source answered; `caught_up` if it had nothing more. `source_time` is its majority
    /// commit point.
    pub fn polled(&self, source_time: Option<ClusterTime>, caught_up: bool, answer: Answer) {
        let now = Utc::now();
        let mut state = self.state();
        state.report.last_poll_at = Some(now);
        state.source_time = source_time.or(state.source_time);
        state.caught_up = caught_up;
        if let Some(source_time) = source_time {
            state.majority.confirmed(source_time, now);
        }
        self.measure_lag(&mut state);
        if answer != Answer::Opened {
            state.forget_failed_before();
        }
        let lost = state.report.halt_code.as_deref() == Some("history_lost");
        let proof = if lost { answer == Answer::Moved } else { answer != Answer::Opened };
        drop(state);
        self.metrics.times.last_poll.with_label_values(&[&*self.name]).set(seconds(now));
        if caught_up && proof {
            self.proved();
        }
    }

    fn measure_lag(&self, state: &mut State) {
        let behind = state
            .source_time
            .zip(state.position.as_ref())
            .map(|(now, p)| now.seconds_since(p.cluster_time));
        let lag = if state.caught_up { 0.0 } else { behind.unwrap_or(0.0).max(0.0) };
        // What a majority has not confirmed cannot be read yet, and is behind all the same.
        let position = state.position.as_ref().map(|position| position.cluster_time);
        let unread = position.and_then(|position| state.majority.lag_seconds(position));
        let lag = lag.max(unread.unwrap_or(0.0));
        state.report.lag_seconds = lag;
        state.report.unconfirmed_since = state.majority.unconfirmed_since();
        self.series.lag.set(lag);
    }

    /// The stored position, as loaded or committed.
    pub fn placed(&self, position: &Position) {
        let mut state = self.state();
        self.place(&mut state, position);
    }

    fn place(&self, state: &mut State, position: &Position) {
        let at = position.cluster_time;
        state.report.position = Some(PositionReport::new(&position.token.text(), at));
        state.position = Some(position.clone());
        self.metrics.times.position.with_label_values(&[&*self.name]).set(f64::from(at.seconds()));
        self.measure_lag(state);
        self.measure_headroom(state);
    }

    /// A batch, a chunk or an idle position was committed.
    pub fn committed(&self, work: &Committed<'_>) {
        let now = Utc::now();
        let (received, gone): (u64, u64) = (work.received.iter().sum(), work.gone);
        let not_applied: u64 = work.not_applied.iter().sum();
        let mut state = self.state();
        let report = &mut state.report;
        report.last_commit_at = Some(now);
        report.events_received += received;
        report.events_applied += received.saturating_sub(not_applied + gone);
        report.events_skipped += gone;
        report.rows_changed += work.rows_changed;
        report.rows_unchanged += work.rows_unchanged;
        report.dead_letters += work.dead_letters.values().sum::<u64>();
        for (code, number) in &work.dead_letters {
            *report.dead_letters_by_code.entry(*code).or_default() += number;
        }
        if let Some(at) = work.last_event {
            report.last_event_at = Some(at.at());
        }
        if let Some(position) = work.position {
            self.place(&mut state, position);
        }
        let works: &[Step] = if work.of_walk {
            &[Step::Apply, Step::Walk, Step::Sweep]
        } else {
            &[Step::Apply, Step::Lookup]
        };
        state.works(works);
        drop(state);
        self.proved();
        self.count_committed(work, now, received);
    }

    fn count_committed(&self, work: &Committed<'_>, now: DateTime<Utc>, received: u64) {
        let gone_updates = [0, work.gone, 0, 0];
        let counters = self.series.received.iter().zip(&self.series.applied);
        let numbers = work.received.iter().zip(work.not_applied).zip(gone_updates);
        for ((received, applied), ((came, not_applied), gone)) in counters.zip(numbers) {
            received.inc_by(*came);
            applied.inc_by(came.saturating_sub(not_applied + gone));
        }
        self.series.rows_changed.inc_by(work.rows_changed);
        self.series.rows_unchanged.inc_by(work.rows_unchanged);
        self.metrics.times.last_commit.with_label_values(&[&*self.name]).set(seconds(now));
        if work.gone > 0 {
            self.metrics
                .events_skipped
                .with_label_values(&[&*self.name, "document_gone"])
                .inc_by(work.gone);
        }
        for (code, number) in &work.dead_letters {
            let code = code.name();
            self.metrics.dead_letters.with_label_values(&[&*self.name, code]).inc_by(*number);
            tracing::warn!(stream = %self.name, code, number, "events set aside in dead_letter");
        }
        if let Some(at) = work.last_event {
            self.metrics
                .times
                .last_event
                .with_label_values(&[&*self.name])
                .set(f64::from(at.seconds()));
        }
        if received > 0 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a batch holds far fewer than 2^52 events"
            )]
            self.series.batch_events.observe(received as f64);
            self.series.batch_commit_seconds.observe(work.took.as_secs_f64());
        }
        for written in work.written_at_millis {
            let millis = i32::try_from(now.timestamp_millis() - written).unwrap_or(i32::MAX).max(0);
            self.series.latency.observe(f64::from(millis) / 1000.0);
        }
    }

    /// What the source's primary has applied, whether a majority has it or not.
    pub fn applied(&self, at: ClusterTime) {
        self.state().majority.applied(at, Utc::now());
    }

    /// The source's horizon was measured.
    pub fn horizon(&self, horizon: HistoryWindow) {
        let mut state = self.state();
        state.horizon = Some(horizon);
        state.report.history_window_seconds = horizon.window_seconds;
        self.measure_headroom(&mut state);
        drop(state);
        self.metrics
            .times
            .history_window
            .with_label_values(&[&*self.name])
            .set(horizon.window_seconds.unwrap_or(f64::NAN));
    }

    /// What of the source's window is left to the stored position.
    fn measure_headroom(&self, state: &mut State) {
        let known = state.horizon.zip(state.position.as_ref());
        let headroom = known.and_then(|(window, position)| window.headroom(position.cluster_time));
        let headroom = headroom.map(|headroom| headroom.left);
        state.report.headroom_seconds = headroom;
        self.metrics
            .times
            .headroom
            .with_label_values(&[&*self.name])
            .set(headroom.unwrap_or(f64::NAN));
    }
}

fn seconds(at: DateTime<Utc>) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 are exact in a double for 280,000 years"
    )]
    let millis = at.timestamp_millis() as f64;
    millis / 1000.0
}
