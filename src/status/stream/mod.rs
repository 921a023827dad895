//! One stream's state, told event by event. Each method is one thing that happened: state, metric
//! and log together. Here are the phases and the fields; what the children tell is written into the
//! same state. What is one for all streams of its group is the group's
//! ([`Group`](super::group::Group)); reports show both.

mod commit;
mod drift;
mod failures;
mod likely_name;
mod of_group;
mod resync;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Utc;

pub use commit::Committed;
pub use drift::{FieldsSeen, REMEMBERED};

use self::drift::Fields;
use super::failing::Failing;
use super::group::Group;
use super::group_report::GroupReport;
use super::metrics::{BatchSeries, BatchSizes, Metrics};
use super::stream_report::{DriftReport, ResyncReport, StreamReport};
use crate::model::phase::Phase;
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    group: Group,
    /// What its series are labelled with: its name, or its group's.
    label: String,
    metrics: Arc<Metrics>,
    /// What every batch writes, looked up once: the data path does no lookups.
    series: BatchSeries,
    /// Its batches' sizes, where they are told apart from the group's.
    sizes: Option<BatchSizes>,
    /// Numbers the changes of all streams' reports.
    changes: Arc<AtomicU64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What is the stream's own; what is the group's stands empty.
    report: StreamReport,
    fields: Fields,
    failing: Failing,
    /// Whether its table is what the source was at the position, but for what is set aside.
    level: bool,
    /// Dead letters of it are not resolved: their documents are not in the table as they are.
    lacks: bool,
    /// The number of the last change of the report.
    changed: u64,
}

impl State {
    /// These steps work again.
    fn works(&mut self, steps: &[Step]) {
        if self.failing.works(steps) {
            self.show_failing();
        }
    }

    /// Keeps what the report says of the table in line.
    const fn show_exact(&mut self) {
        self.report.exact = self.level && !self.lacks;
    }

    /// Keeps what the report says of failing steps in line.
    fn show_failing(&mut self) {
        self.report.failing = self.failing.reports();
    }

    /// What is the stream's own, but for what is known of the documents' fields.
    fn own(&self) -> StreamReport {
        StreamReport { drift: self.fields.drift(), ..self.report.clone() }
    }
}

impl Stream {
    pub(in crate::status) fn new(
        names: &StreamNames,
        group: &Group,
        metrics: &Arc<Metrics>,
        changes: &Arc<AtomicU64>,
    ) -> Self {
        let StreamNames { name, source, table } = names;
        let report = StreamReport {
            group: group.name().to_owned(),
            phase: Phase::Streaming,
            ..StreamReport::new(name, source, table)
        };
        let label = metrics.label_of(name, group.name()).to_owned();
        let state = State {
            report,
            fields: Fields::default(),
            failing: Failing::default(),
            level: false,
            lacks: false,
            changed: 0,
        };
        let inner = Inner {
            name: name.clone(),
            group: group.clone(),
            metrics: Arc::clone(metrics),
            series: metrics.batches.of(&label),
            sizes: (!metrics.is_by_group()).then(|| metrics.batches.sizes(&label)),
            label,
            changes: Arc::clone(changes),
            state: Mutex::new(state),
        };
        Self { inner: Arc::new(inner) }
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What is one for all streams of its group.
    pub fn group(&self) -> &Group {
        &self.inner.group
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, to change something that the report shows.
    fn change(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.changed = self.inner.changes.fetch_add(1, Ordering::Relaxed) + 1;
        state
    }

    /// The whole report: the group's part and the stream's own.
    pub fn report(&self) -> StreamReport {
        self.report_of(&self.inner.group.report())
    }

    /// The same; `of_group` is the group's part.
    pub(in crate::status) fn report_of(&self, of_group: &GroupReport) -> StreamReport {
        let fields = self.state().fields.report();
        StreamReport { fields, ..self.summary(of_group) }
    }

    /// The report without what is known of the documents' fields; `of_group` is the group's part.
    pub fn summary(&self, of_group: &GroupReport) -> StreamReport {
        self.state().own().of_group(of_group)
    }

    /// What is the stream's own, if it has changed since the change of this number: what its
    /// group's position, polls and commits change is left out.
    pub(in crate::status) fn changed_since(&self, number: u64) -> Option<StreamReport> {
        let state = self.state();
        let fields = state.fields.report();
        (state.changed > number).then(|| StreamReport { fields, ..state.own() })
    }

    /// Events received, and rows written or left alone, since the start.
    pub(in crate::status) fn counts(&self) -> (u64, u64) {
        let report = &self.state().report;
        (report.events_received, report.rows_changed + report.rows_unchanged)
    }

    /// The walk of it that is under way, if there is one.
    pub fn walk(&self) -> Option<ResyncReport> {
        self.state().report.resync.clone()
    }

    pub fn leads(&self) -> bool {
        self.inner.group.leads()
    }

    /// The stream's own phase, which is shown while its group follows.
    pub fn entered(&self, phase: Phase) {
        let mut state = self.change();
        (state.report.halt_code, state.report.reason) = (None, None);
        if state.report.phase != phase {
            (state.report.phase, state.report.phase_since) = (phase, Utc::now());
            drop(state);
            tracing::info!(stream = self.name(), phase = phase.name(), "phase entered");
        }
    }

    /// The stream's own phase, whether its group follows or not.
    pub fn own_phase(&self) -> Phase {
        self.state().report.phase
    }

    /// Whether its table is the source at the group's position, but for what is set aside: not
    /// while it is walked, or parked.
    pub fn level(&self, level: bool) {
        let mut state = self.change();
        state.level = level;
        state.show_exact();
    }

    /// Whether dead letters of it are not resolved, which its table lacks.
    pub fn lacks(&self, lacks: bool) {
        let mut state = self.change();
        state.lacks = lacks;
        state.show_exact();
    }

    /// What the stream's last leader left, for what a new one cannot know.
    pub fn remembers(&self, told: &StreamReport) {
        let mut state = self.change();
        state.report.last_event_at = state.report.last_event_at.max(told.last_event_at);
        state.fields.remember(&told.fields, &told.drift);
    }

    /// Which columns read which fields, in the order of configuration.
    pub fn mapped(&self, columns: Vec<(String, Vec<String>)>) {
        self.change().fields.reads(columns);
    }

    /// Documents were mapped to rows.
    pub fn drifted(&self, seen: &FieldsSeen<'_>) {
        let mut state = self.change();
        let first_walk = state.report.phase == Phase::Snapshotting;
        let new = state.fields.see(Utc::now(), seen, first_walk);
        drop(state);
        for DriftReport { field, column, kind, .. } in new {
            tracing::warn!(
                stream = self.name(),
                field = shown(&field),
                column,
                kind = kind.name(),
                "field differs from its configuration"
            );
        }
        if seen.replaced > 0 {
            let replaced = &self.inner.metrics.streams.characters_replaced;
            replaced.with_label_values(&[&self.inner.label]).inc_by(seen.replaced);
        }
    }
}
