//! The gauges, as the reports are when somebody asks for the metrics: the data path sets none.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use prometheus::{GaugeVec, IntGaugeVec};

use super::Metrics;
use super::time::seconds;
use crate::error::Code;
use crate::model::drift_kind::DriftKind;
use crate::model::phase::Phase;
use crate::status::group_report::GroupReport;
use crate::status::stream_report::{ComparedReport, StreamReport};

impl Metrics {
    /// Sets every gauge of groups and streams. `groups` are those of the streams.
    pub(super) fn read(&self, groups: &[GroupReport], streams: &[StreamReport]) {
        self.forget();
        let mut known: BTreeMap<&str, (f64, u64)> = BTreeMap::new();
        for group in groups {
            self.of_group(group);
            known.insert(&group.name, (position(group), group.failures));
        }
        for stream in streams {
            let (at, failures) = known.get(stream.group.as_str()).copied().unwrap_or_default();
            self.of_stream(stream, at);
            let errors = self.streams.errors.with_label_values(&[&stream.name]);
            let own = stream.failures.saturating_sub(failures) + stream.dead_letters;
            errors.inc_by(own.saturating_sub(errors.get()));
        }
    }

    /// Sums begin at zero, and a phase that a stream has left stands nowhere.
    fn forget(&self) {
        let (s, walks) = (&self.streams, &self.walks);
        for sums in [&s.drift_fields, &s.by_phase, &s.parked, &walks.active, &walks.divergent] {
            sums.reset();
        }
        if self.by_group {
            s.phase.reset();
        }
    }

    fn of_group(&self, group: &GroupReport) {
        let name = group.name.as_str();
        self.streams.group_exact.with_label_values(&[name]).set(i64::from(group.exact));
        for phase in Phase::ALL {
            self.streams.by_phase.with_label_values(&[name, phase.name()]);
        }
        for code in Code::ALL {
            self.streams.parked.with_label_values(&[name, code.name()]);
        }
    }

    fn of_stream(&self, stream: &StreamReport, position: f64) {
        let (name, group) = (stream.name.as_str(), stream.group.as_str());
        let label = self.label_of(name, group);
        let times = &self.times;
        times.position.with_label_values(&[name]).set(position);
        times.lag.with_label_values(&[name]).set(stream.lag_seconds);
        for (gauge, at) in [
            (&times.last_poll, stream.last_poll_at),
            (&times.last_commit, stream.last_commit_at),
            (&times.last_event, stream.last_event_at),
        ] {
            newest(gauge, label, at);
        }
        let unknown = f64::NAN;
        let window = stream.history_window_seconds.unwrap_or(unknown);
        times.history_window.with_label_values(&[label]).set(window);
        let headroom = stream.headroom_seconds.unwrap_or(unknown);
        times.headroom.with_label_values(&[label]).set(headroom);
        self.of_life(stream, label);
        let walking = u64::from(stream.resync.is_some());
        add(&self.walks.active, &[label], walking);
        let differences = stream.compared.as_ref().map_or(0, ComparedReport::differences);
        add(&self.walks.divergent, &[label], differences);
        for kind in DriftKind::ALL {
            let fields = stream.drift.iter().filter(|drift| drift.kind == kind).count();
            let label = [label, kind.name()];
            add(&self.streams.drift_fields, &label, crate::model::count(fields));
        }
    }

    fn of_life(&self, stream: &StreamReport, label: &str) {
        let (name, group) = (stream.name.as_str(), stream.group.as_str());
        let series = &self.streams;
        series.lease_held.with_label_values(&[label]).set(i64::from(stream.leader));
        let epoch = series.lease_epoch.with_label_values(&[label]);
        if stream.leader {
            epoch.set(stream.epoch);
        }
        add(&series.by_phase, &[group, stream.phase.name()], 1);
        for phase in Phase::ALL {
            let is_in_it = phase == stream.phase;
            // Ten series for each of a thousand streams are too many.
            if is_in_it || !self.by_group {
                let phase = series.phase.with_label_values(&[name, phase.name()]);
                phase.set(i64::from(is_in_it));
            }
        }
        let code = stream.halt_code.as_deref().and_then(Code::parse);
        if let Some(code) = code.filter(|_| stream.phase == Phase::Parked) {
            add(&series.parked, &[group, code.name()], 1);
        }
    }
}

fn add(gauge: &IntGaugeVec, labels: &[&str], number: u64) {
    gauge.with_label_values(labels).add(i64::try_from(number).unwrap_or(i64::MAX));
}

/// Of a sum by group: the newest of its streams.
fn newest(gauge: &GaugeVec, label: &str, at: Option<DateTime<Utc>>) {
    let gauge = gauge.with_label_values(&[label]);
    gauge.set(gauge.get().max(at.map_or(0.0, seconds)));
}

fn position(group: &GroupReport) -> f64 {
    let known = group.position.as_ref();
    let at = known.and_then(|known| DateTime::parse_from_rfc3339(&known.cluster_time).ok());
    at.map_or(0.0, |at| seconds(at.to_utc()))
}
