//! The metrics: one registry, every series there from the start at zero. Names: docs/reference.md,
//! "Metrics".

mod groups;

use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use groups::{Batches, Notices, Times, Walks};

use crate::error::{Class, Code, Severity};
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::drift_kind::DriftKind;
use crate::model::event::Operation;
use crate::model::phase::Phase;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::model::step::Step;

/// Why an event changes nothing: documented in docs/reference.md.
pub const SKIPPED: [&str; 1] = ["document_gone"];

const CHANNELS: [&str; 3] = ["slack", "sentry", "heartbeat"];

/// Every metric, by its name without the prefix.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub times: Times,
    pub batches: Batches,
    pub notices: Notices,
    pub walks: Walks,
    pub stream_phase: IntGaugeVec,
    pub lease_held: IntGaugeVec,
    pub lease_epoch: IntGaugeVec,
    pub events_received: IntCounterVec,
    pub events_applied: IntCounterVec,
    pub events_skipped: IntCounterVec,
    pub rows_changed: IntCounterVec,
    pub rows_unchanged: IntCounterVec,
    pub dead_letters: IntCounterVec,
    pub commit_failures: IntCounterVec,
    pub fenced_commits: IntCounterVec,
    pub retries: IntCounterVec,
    pub drift_fields: IntGaugeVec,
    pub characters_replaced: IntCounterVec,
    pub log_lines_dropped: IntCounter,
}

/// Makes and registers metrics under the prefix.
struct Maker(Registry);

const PREFIX: &str = "tidemark";

#[expect(
    clippy::expect_used,
    reason = "names and labels are constants: a clash or a bad name fails every test at once"
)]
impl Maker {
    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace(PREFIX)
    }

    fn keep<M: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: prometheus::Result<M>,
    ) -> M {
        let metric = metric.expect("a valid metric");
        self.0.register(Box::new(metric.clone())).expect("a metric registered once");
        metric
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Self::opts(name, help), labels))
    }

    fn one_counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::with_opts(Self::opts(name, help)))
    }

    fn int_gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> GaugeVec {
        self.keep(GaugeVec::new(Self::opts(name, help), &["stream"]))
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).namespace(PREFIX).buckets(buckets);
        self.keep(HistogramVec::new(opts, &["stream"]))
    }
}

impl Metrics {
    pub fn new(streams: &[String]) -> Self {
        let make = Maker(Registry::new());
        let build = make.int_gauge(
            "build_info",
            "Always 1; the labels tell the build",
            &["version", "commit"],
        );
        build.with_label_values(&[crate::VERSION, crate::COMMIT]).set(1);
        let s = &["stream"];
        let metrics = Self {
            times: Times::new(&make),
            batches: Batches::new(&make),
            notices: Notices::new(&make),
            walks: Walks::new(&make),
            stream_phase: make.int_gauge(
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
            events_received: make.counter(
                "events_received_total",
                "Change events taken into committed batches",
                &["stream", "operation"],
            ),
            events_applied: make.counter(
                "events_applied_total",
                "Change events whose effect is committed",
                &["stream", "operation"],
            ),
            events_skipped: make.counter(
                "events_skipped_total",
                "Change events that change nothing, by why",
                &["stream", "reason"],
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
            dead_letters: make.counter(
                "dead_letters_total",
                "Events set aside",
                &["stream", "code"],
            ),
            commit_failures: make.counter(
                "commit_failures_total",
                "Batches that could not be committed, by class",
                &["stream", "class"],
            ),
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
            log_lines_dropped: make.one_counter(
                "log_lines_dropped_total",
                "Lines of the log that nobody read in time",
            ),
            registry: make.0,
        };
        metrics.start_at_zero(streams);
        metrics
    }

    fn start_at_zero(&self, streams: &[String]) {
        for stream in streams {
            let s = stream.as_str();
            for gauge in
                [&self.lease_held, &self.lease_epoch, &self.walks.active, &self.walks.divergent]
            {
                gauge.with_label_values(&[s]);
            }
            for gauge in [
                &self.times.last_poll,
                &self.times.last_commit,
                &self.times.last_event,
                &self.times.position,
                &self.times.lag,
            ] {
                gauge.with_label_values(&[s]);
            }
            for gauge in [&self.times.history_window, &self.times.headroom] {
                gauge.with_label_values(&[s]).set(f64::NAN);
            }
            let counters = [
                &self.rows_changed,
                &self.rows_unchanged,
                &self.fenced_commits,
                &self.walks.documents_read,
                &self.walks.rows_upserted,
                &self.walks.rows_deleted,
                &self.characters_replaced,
            ];
            for counter in counters {
                counter.with_label_values(&[s]);
            }
            for histogram in [
                &self.batches.batch_events,
                &self.batches.batch_commit_seconds,
                &self.batches.end_to_end_latency,
            ] {
                histogram.with_label_values(&[s]);
            }
            self.label_each(s);
        }
        for code in Code::ALL {
            for severity in Severity::ALL {
                self.notices.incident_open.with_label_values(&[code.name(), severity.name()]);
            }
        }
        for result in ["ok", "failed"] {
            self.notices.incident_writes.with_label_values(&[result]);
        }
        for channel in CHANNELS {
            for result in ["ok", "failed"] {
                self.notices.alerts_sent.with_label_values(&[channel, result]);
            }
        }
    }

    /// The series with a second label, for one stream.
    fn label_each(&self, s: &str) {
        for phase in Phase::ALL {
            self.stream_phase.with_label_values(&[s, phase.name()]);
        }
        for operation in Operation::ROWS {
            self.events_received.with_label_values(&[s, operation.name()]);
            self.events_applied.with_label_values(&[s, operation.name()]);
        }
        for reason in SKIPPED {
            self.events_skipped.with_label_values(&[s, reason]);
        }
        for code in DeadLetterCode::ALL {
            self.dead_letters.with_label_values(&[s, code.name()]);
        }
        for class in Class::ALL {
            self.commit_failures.with_label_values(&[s, class.name()]);
        }
        for step in Step::ALL {
            self.retries.with_label_values(&[s, step.name()]);
        }
        for reason in Reason::ALL {
            for result in ResyncState::ALL.into_iter().filter(|state| !state.is_open()) {
                self.walks.ended.with_label_values(&[s, reason.name(), result.name()]);
            }
        }
        for kind in DriftKind::ALL {
            self.drift_fields.with_label_values(&[s, kind.name()]);
        }
    }

    /// The Prometheus text.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

/// One stream's series, looked up once: the data path does no lookups.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub received: [IntCounter; 4],
    pub applied: [IntCounter; 4],
    pub rows_changed: IntCounter,
    pub rows_unchanged: IntCounter,
    pub batch_events: Histogram,
    pub batch_commit_seconds: Histogram,
    pub latency: Histogram,
    pub lag: Gauge,
}

impl Series {
    pub fn of(metrics: &Metrics, stream: &str) -> Self {
        let s = &[stream];
        Self {
            received: Operation::ROWS
                .map(|op| metrics.events_received.with_label_values(&[stream, op.name()])),
            applied: Operation::ROWS
                .map(|op| metrics.events_applied.with_label_values(&[stream, op.name()])),
            rows_changed: metrics.rows_changed.with_label_values(s),
            rows_unchanged: metrics.rows_unchanged.with_label_values(s),
            batch_events: metrics.batches.batch_events.with_label_values(s),
            batch_commit_seconds: metrics.batches.batch_commit_seconds.with_label_values(s),
            latency: metrics.batches.end_to_end_latency.with_label_values(s),
            lag: metrics.times.lag.with_label_values(s),
        }
    }
}
