//! What is one for all streams of a group: its phase, its lease, its position, the steps that fail
//! for all of them. Each method is one thing that happened: state, counter and log together.
//!
//! Nothing here goes through the group's streams: a reply of the source costs the same whether the
//! group has two streams or a thousand.

mod halt;
mod lag;
mod majority;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Utc;
use tokio::sync::Notify;

pub use lag::Answer;

use self::majority::Majority;
use super::failing::Failing;
use super::group_report::GroupReport;
use super::metrics::{BatchSizes, Metrics};
use crate::error::Code;
use crate::model::history_window::HistoryWindow;
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, Position};
use crate::model::step::Step;

/// A handle on one group's state. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    /// Its stream, if it has only one.
    alone: Option<String>,
    /// What its series are labelled with.
    labels: Vec<String>,
    metrics: Arc<Metrics>,
    /// Its batches' sizes, where those of its streams are not told apart.
    sizes: Option<BatchSizes>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    report: GroupReport,
    /// Whether another process led it when that was last looked at.
    led_elsewhere: bool,
    position: Option<Position>,
    /// The source's majority commit point, as last heard.
    source_time: Option<ClusterTime>,
    caught_up: bool,
    majority: Majority,
    history_window: Option<HistoryWindow>,
    /// The phase to show once a probe of a halted group has proved something.
    after_probe: Option<Phase>,
    failing: Failing,
    /// Whoever writes the phase down for those who ask the database.
    moved: Option<Arc<Notify>>,
}

impl State {
    /// These steps work again.
    fn works(&mut self, steps: &[Step]) {
        if self.failing.works(steps) {
            self.show_failing();
        }
    }

    /// Keeps what the report says of failing steps in line. A halted group's reason is its halt's.
    fn show_failing(&mut self) {
        let report = &mut self.report;
        report.failing = self.failing.reports();
        report.retrying =
            report.failing.iter().map(|failing| failing.attempts).max().unwrap_or_default();
        if report.halt_code.is_none() {
            report.reason = GroupReport::longest(&report.failing);
        }
    }
}

impl Group {
    /// `streams`: the names of its streams.
    pub(in crate::status) fn new(name: &str, streams: &[String], metrics: &Arc<Metrics>) -> Self {
        let state = State {
            report: GroupReport::new(name),
            led_elsewhere: false,
            position: None,
            source_time: None,
            caught_up: false,
            majority: Majority::default(),
            history_window: None,
            after_probe: None,
            failing: Failing::default(),
            moved: None,
        };
        let inner = Inner {
            name: name.to_owned(),
            alone: streams.first().filter(|_| streams.len() == 1).cloned(),
            labels: metrics.labels_of(name, streams),
            metrics: Arc::clone(metrics),
            sizes: metrics.is_by_group().then(|| metrics.batches.sizes(name)),
            state: Mutex::new(state),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What it is called where people are told of it: its stream, if it has only one.
    pub fn subject(&self) -> String {
        match &self.inner.alone {
            Some(stream) => format!("stream {stream}"),
            None => format!("group {}", self.inner.name),
        }
    }

    pub(in crate::status) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn report(&self) -> GroupReport {
        self.state().report.clone()
    }

    pub fn leads(&self) -> bool {
        self.state().report.leader
    }

    /// Whether this process or another one leads it.
    pub(in crate::status) fn is_led(&self) -> bool {
        let state = self.state();
        state.report.leader || state.led_elsewhere
    }

    /// The group entered a phase other than `halted`; [`Phase::Streaming`] if it follows. A halted
    /// group that is probed shows as halted until the probe has proved something, so that what a
    /// person sees does not flap.
    pub fn entered(&self, phase: Phase) {
        let mut state = self.state();
        if state.report.halt_code.is_some() && !matches!(phase, Phase::Standby | Phase::Draining) {
            state.after_probe = Some(phase);
            return;
        }
        self.show(&mut state, phase);
    }

    fn show(&self, state: &mut State, phase: Phase) {
        state.after_probe = None;
        state.report.halt_code = None;
        state.show_failing();
        if state.report.phase != phase {
            (state.report.phase, state.report.phase_since) = (phase, Utc::now());
            if let Some(moved) = &state.moved {
                moved.notify_one();
            }
            tracing::info!(group = self.name(), phase = phase.name(), "phase entered");
        }
    }

    /// Lets somebody know of each phase that the group enters from now on.
    pub fn tell_of_phases(&self, moved: Arc<Notify>) {
        self.state().moved = Some(moved);
    }

    /// A commit, or a reply that says the group is caught up: whatever halted it is mended.
    fn proved(&self, state: &mut State) {
        if let Some(phase) = state.after_probe.take() {
            state.failing.clear();
            self.show(state, phase);
        }
    }

    pub fn granted(&self, epoch: i64, holder: &str) {
        let mut state = self.state();
        state.led_elsewhere = false;
        (state.report.leader, state.report.epoch, state.report.holder) =
            (true, epoch, Some(holder.to_owned()));
        drop(state);
        tracing::info!(group = self.name(), epoch, "lease granted");
    }

    pub fn lease_ended(&self) {
        let mut state = self.state();
        state.report.leader = false;
        state.failing.clear();
        state.show_failing();
    }

    /// Another process leads the group; `told` is what it last reported of it.
    pub fn led_by(&self, holder: Option<String>, epoch: i64, told: Option<GroupReport>) {
        let mut state = self.state();
        state.led_elsewhere = true;
        (state.caught_up, state.source_time, state.position) = (false, None, None);
        state.majority = Majority::default();
        let report = &mut state.report;
        (report.holder, report.epoch) = (holder, epoch);
        if let Some(told) = told {
            report.position = told.position;
            report.exact = told.exact;
            report.last_poll_at = told.last_poll_at;
            report.last_commit_at = told.last_commit_at;
            report.history_window_seconds = told.history_window_seconds;
            report.headroom_seconds = told.headroom_seconds;
            report.lag_seconds = told.lag_seconds;
            report.unconfirmed_since = told.unconfirmed_since;
        }
    }

    /// Whether what is committed is read as of one cluster time: not while the source cannot be
    /// read so.
    pub fn exact(&self, exact: bool) {
        self.state().report.exact = exact;
    }

    /// Work was given up because the group is not held any more.
    pub fn fenced(&self) {
        for label in &self.inner.labels {
            self.inner.metrics.streams.fenced_commits.with_label_values(&[label]).inc();
        }
        tracing::warn!(group = self.name(), "fenced: the group's row is of another grant");
    }

    /// Postgres went back to an earlier state.
    pub fn rewound(&self, how: &str) {
        self.state().report.rewound_at = Some(Utc::now());
        let code = Code::TargetRewound.name();
        tracing::warn!(group = self.name(), code, "taking up what the database says: {how}");
    }
}
