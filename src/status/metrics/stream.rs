//! A stream's life: its phase, its lease, its attempts, its fields; and its group's.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::maker::Maker;
use crate::model::step::Step;

#[derive(Debug)]
pub struct Streams {
    pub phase: IntGaugeVec,
    pub lease_held: IntGaugeVec,
    pub lease_epoch: IntGaugeVec,
    pub fenced_commits: IntCounterVec,
    pub retries: IntCounterVec,
    pub errors: IntCounterVec,
    pub drift_fields: IntGaugeVec,
    pub parked: IntGaugeVec,
    pub group_exact: IntGaugeVec,
    pub by_phase: IntGaugeVec,
    pub characters_replaced: IntCounterVec,
}

impl Streams {
    /// `by`: the label of those series that are not by stream whatever their number.
    pub fn new(make: &Maker, by: &str) -> Self {
        let s = &[by];
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
                "Work given up because the stream's group was not held any more",
                s,
            ),
            retries: make.counter(
                "retries_total",
                "Attempts that failed and were made again",
                &[by, "step"],
            ),
            errors: make.counter(
                "errors_total",
                "Failed attempts and parkings of a stream's own, and its events set aside",
                &["stream"],
            ),
            drift_fields: make.int_gauge(
                "drift_fields",
                "Fields that differ from their configuration",
                &[by, "kind"],
            ),
            parked: make.int_gauge("parked", "Streams that are parked, by why", &["group", "code"]),
            group_exact: make.int_gauge(
                "group_exact",
                "1 while all tables of a group are the source at one cluster time",
                &["group"],
            ),
            by_phase: make.int_gauge(
                "group_streams",
                "Streams of a group, by the phase they are in",
                &["group", "phase"],
            ),
            characters_replaced: make.counter(
                "characters_replaced_total",
                "Characters Postgres cannot store that became U+FFFD",
                s,
            ),
        }
    }

    /// Begins every counter of a stream, or of a group, at zero.
    pub fn start(&self, label: &str) {
        for counter in [&self.fenced_commits, &self.characters_replaced] {
            counter.with_label_values(&[label]);
        }
        for step in Step::ALL {
            self.retries.with_label_values(&[label, step.name()]);
        }
    }
}
