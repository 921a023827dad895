//! A stream's life: its phase, its lease, its attempts, its fields.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::maker::Maker;
use crate::model::drift_kind::DriftKind;
use crate::model::phase::Phase;
use crate::model::step::Step;

#[derive(Debug)]
pub struct Streams {
    pub phase: IntGaugeVec,
    pub lease_held: IntGaugeVec,
    pub lease_epoch: IntGaugeVec,
    pub fenced_commits: IntCounterVec,
    pub retries: IntCounterVec,
    pub drift_fields: IntGaugeVec,
    pub characters_replaced: IntCounterVec,
}

impl Streams {
    pub fn new(make: &Maker) -> Self {
        let s = &["stream"];
        Self {
            phase: make.int_gauge(
                "stream_phase",
                "1 for the phase a stream is in",
                &["stream", "phase"],
            ),
            lease_held: make.int_gauge(
                "lease_held",
                "1 while this process holds the stream's lease",
                s,
            ),
            lease_epoch: make.int_gauge("lease_epoch", "Epoch of the lease last held here", s),
            fenced_commits: make.counter(
                "fenced_commits_total",
                "Work given up because another process was granted the stream",
                s,
            ),
            retries: make.counter(
                "retries_total",
                "Attempts that failed and were made again",
                &["stream", "step"],
            ),
            drift_fields: make.int_gauge(
                "drift_fields",
                "Fields that differ from their configuration",
                &["stream", "kind"],
            ),
            characters_replaced: make.counter(
                "characters_replaced_total",
                "Characters Postgres cannot store that became U+FFFD",
                s,
            ),
        }
    }

    pub fn start(&self, stream: &str) {
        for phase in Phase::ALL {
            self.phase.with_label_values(&[stream, phase.name()]);
        }
        for gauge in [&self.lease_held, &self.lease_epoch] {
            gauge.with_label_values(&[stream]);
        }
        for counter in [&self.fenced_commits, &self.characters_replaced] {
            counter.with_label_values(&[stream]);
        }
        for step in Step::ALL {
            self.retries.with_label_values(&[stream, step.name()]);
        }
        for kind in DriftKind::ALL {
            self.drift_fields.with_label_values(&[stream, kind.name()]);
        }
    }
}
