//! What committed batches came to: events, rows, dead letters; and how long a change took to get
//! here.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};

use super::maker::Maker;
use crate::error::Class;
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::event::Operation;

/// Why an event changes nothing: documented in docs/reference.md.
const SKIPPED: [&str; 3] = ["document_gone", "parked", "filtered"];

const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

#[derive(Debug)]
pub struct Batches {
    pub events_skipped: IntCounterVec,
    pub dead_letters: IntCounterVec,
    pub commit_failures: IntCounterVec,
    events_received: IntCounterVec,
    events_applied: IntCounterVec,
    rows_changed: IntCounterVec,
    rows_unchanged: IntCounterVec,
    batch_events: HistogramVec,
    batch_commit_seconds: HistogramVec,
    end_to_end_latency: HistogramVec,
}

impl Batches {
    /// `by`: the label of its series.
    pub fn new(make: &Maker, by: &str) -> Self {
        let s = &[by];
        Self {
            events_received: make.counter(
                "events_received_total",
                "Change events taken into committed batches",
                &[by, "operation"],
            ),
            events_applied: make.counter(
                "events_applied_total",
                "Change events whose effect is committed",
                &[by, "operation"],
            ),
            events_skipped: make.counter(
                "events_skipped_total",
                "Change events that change nothing, by why",
                &[by, "reason"],
            ),
            rows_changed: make.counter(
                "rows_changed_total",
                "Rows inserted, updated or deleted",
                s,
            ),
            rows_unchanged: make.counter(
                "rows_unchanged_total",
                "Rows not written because they would not change or are newer",
                s,
            ),
            dead_letters: make.counter("dead_letters_total", "Events set aside", &[by, "code"]),
            commit_failures: make.counter(
                "commit_failures_total",
                "Batches that could not be committed, by class",
                &[by, "class"],
            ),
            batch_events: make.histogram(
                "batch_events",
                "Events in a committed batch",
                by,
                vec![1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5],
            ),
            batch_commit_seconds: make.histogram(
                "batch_commit_seconds",
                "Time to write and commit a batch",
                by,
                SECONDS.to_vec(),
            ),
            end_to_end_latency: make.histogram(
                "end_to_end_latency_seconds",
                "From the write in the source to the commit here",
                by,
                SECONDS.to_vec(),
            ),
        }
    }

    /// Begins every series of a stream, or of a group, at zero.
    pub fn start(&self, label: &str) {
        let _ = (self.of(label), self.sizes(label));
        for reason in SKIPPED {
            self.events_skipped.with_label_values(&[label, reason]);
        }
        for code in DeadLetterCode::ALL {
            self.dead_letters.with_label_values(&[label, code.name()]);
        }
        for class in Class::ALL {
            self.commit_failures.with_label_values(&[label, class.name()]);
        }
    }

    /// The series of one stream, or of one group.
    pub fn of(&self, label: &str) -> BatchSeries {
        let s = &[label];
        BatchSeries {
            received: Operation::ROWS
                .map(|op| self.events_received.with_label_values(&[label, op.name()])),
            applied: Operation::ROWS
                .map(|op| self.events_applied.with_label_values(&[label, op.name()])),
            rows_changed: self.rows_changed.with_label_values(s),
            rows_unchanged: self.rows_unchanged.with_label_values(s),
            latency: self.end_to_end_latency.with_label_values(s),
        }
    }

    /// The sizes of the batches of one stream, or of one group.
    pub fn sizes(&self, label: &str) -> BatchSizes {
        BatchSizes {
            events: self.batch_events.with_label_values(&[label]),
            commit_seconds: self.batch_commit_seconds.with_label_values(&[label]),
        }
    }
}

/// One stream's series that every batch writes, each looked up once.
#[derive(Debug, Clone)]
pub struct BatchSeries {
    /// By operation, in the order of [`Operation::ROWS`].
    received: [IntCounter; 4],
    applied: [IntCounter; 4],
    pub rows_changed: IntCounter,
    pub rows_unchanged: IntCounter,
    pub latency: Histogram,
}

/// How large batches are and how long their commits take.
#[derive(Debug, Clone)]
pub struct BatchSizes {
    events: Histogram,
    commit_seconds: Histogram,
}

impl BatchSizes {
    /// A batch of so many events was committed.
    pub fn observe(&self, events: u64, took: Duration) {
        #[expect(clippy::cast_precision_loss, reason = "a batch holds far fewer than 2^52 events")]
        self.events.observe(events as f64);
        self.commit_seconds.observe(took.as_secs_f64());
    }
}

impl BatchSeries {
    /// Counts a batch's events by operation: received = applied + set aside + skipped.
    pub fn count(&self, came: [u64; 4], set_aside: [u64; 4], skipped: [u64; 4]) {
        let counters = self.received.iter().zip(&self.applied);
        let numbers = came.into_iter().zip(set_aside).zip(skipped);
        for ((received, applied), ((came, set_aside), skipped)) in counters.zip(numbers) {
            received.inc_by(came);
            applied.inc_by(came.saturating_sub(set_aside + skipped));
        }
    }
}
