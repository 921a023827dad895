//! One stream's state, told event by event. Each method is one thing that happened: state, metric
//! and log together. Here are the phases, the lease and the fields; what the children tell is
//! written into the same state.

mod commit;
mod drift;
mod failing;
mod failures;
mod lag;
mod likely_name;
mod majority;
mod resync;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Utc;
use prometheus::Gauge;

pub use commit::Committed;
pub use drift::{FieldsSeen, REMEMBERED};
pub use lag::Answer;

use self::drift::Fields;
use self::failing::Failing;
use self::majority::Majority;
use super::metrics::{BatchSeries, Metrics};
use super::report::{DriftReport, StreamReport};
use crate::error::Code;
use crate::model::drift_kind::DriftKind;
use crate::model::history_window::HistoryWindow;
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, Position};
use crate::model::shown::shown;
use crate::model::step::Step;

/// What a stream and its two ends are called.
#[derive(Debug, Clone)]
pub struct StreamNames {
    pub name: String,
    /// The collection, with its database.
    pub source: String,
    /// The table, with its schema.
    pub table: String,
}

/// A handle on one stream's state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stream {
    name: Arc<str>,
    metrics: Arc<Metrics>,
    /// What every batch writes, looked up once: the data path does no lookups.
    series: BatchSeries,
    lag: Gauge,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    report: StreamReport,
    position: Option<Position>,
    /// The source's majority commit point, as last heard.
    source_time: Option<ClusterTime>,
    caught_up: bool,
    majority: Majority,
    history_window: Option<HistoryWindow>,
    /// The phase to show once a probe of a halted stream has proved something.
    after_probe: Option<Phase>,
    fields: Fields,
    failing: Failing,
}

impl State {
    /// These steps work again.
    fn works(&mut self, steps: &[Step]) {
        self.failing.works(steps);
        self.show_failing();
    }

    /// Keeps what the report says of failing steps in line. A halted stream's reason is its halt's.
    fn show_failing(&mut self) {
        let report = &mut self.report;
        report.failing = self.failing.reports();
        report.retrying =
            report.failing.iter().map(|failing| failing.attempts).max().unwrap_or_default();
        if report.halt_code.is_none() {
            let longest = report.failing.iter().min_by_key(|failing| failing.since);
            report.reason = longest.map(|failing| format!("{}: {}", failing.step, failing.reason));
        }
    }
}

impl Stream {
    pub(in crate::status) fn new(names: &StreamNames, metrics: &Arc<Metrics>) -> Self {
        let StreamNames { name, source, table } = names;
        let report = StreamReport::new(name, source, table);
        let state = State {
            report,
            position: None,
            source_time: None,
            caught_up: false,
            majority: Majority::default(),
            history_window: None,
            after_probe: None,
            fields: Fields::default(),
            failing: Failing::default(),
        };
        let stream = Self {
            name: name.as_str().into(),
            metrics: Arc::clone(metrics),
            series: metrics.batches.of(name),
            lag: metrics.times.lag.with_label_values(&[name]),
            state: Arc::new(Mutex::new(state)),
        };
        stream.show_phase(Phase::Standby);
        stream
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> MutexGuard<'_, State> {
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

    fn show_phase(&self, now: Phase) {
        for phase in Phase::ALL {
            self.metrics
                .streams
                .phase
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
        self.metrics.streams.lease_held.with_label_values(&[&*self.name]).set(1);
        self.metrics.streams.lease_epoch.with_label_values(&[&*self.name]).set(epoch);
        tracing::info!(stream = %self.name, epoch, "lease granted");
    }

    pub fn lease_ended(&self) {
        let mut state = self.state();
        state.report.leader = false;
        state.failing.clear();
        state.show_failing();
        drop(state);
        self.metrics.streams.lease_held.with_label_values(&[&*self.name]).set(0);
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
        self.metrics.streams.fenced_commits.with_label_values(&[&*self.name]).inc();
        tracing::warn!(stream = %self.name, "fenced: another process was granted this stream");
    }

    /// Postgres went back to an earlier state.
    pub fn rewound(&self, how: &str) {
        self.state().report.rewound_at = Some(Utc::now());
        let code = Code::TargetRewound.name();
        tracing::warn!(stream = %self.name, code, "taking up what the database says: {how}");
    }

    /// Which columns read which fields, in the order of configuration.
    pub fn mapped(&self, columns: Vec<(String, Vec<String>)>) {
        self.state().fields.reads(columns);
    }

    /// Documents were mapped to rows.
    pub fn drifted(&self, seen: &FieldsSeen<'_>) {
        let mut state = self.state();
        let first_walk = state.report.phase == Phase::Snapshotting;
        for new in state.fields.see(Utc::now(), seen, first_walk) {
            let DriftReport { column, kind, .. } = new;
            let field = shown(&new.field);
            tracing::warn!(
                stream = %self.name,
                field,
                column,
                kind = kind.name(),
                "field differs from its configuration"
            );
        }
        for kind in DriftKind::ALL {
            let number = i64::try_from(state.fields.count(kind)).unwrap_or(i64::MAX);
            self.metrics
                .streams
                .drift_fields
                .with_label_values(&[&*self.name, kind.name()])
                .set(number);
        }
        drop(state);
        self.metrics
            .streams
            .characters_replaced
            .with_label_values(&[&*self.name])
            .inc_by(seen.replaced);
    }
}
