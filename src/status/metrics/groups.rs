//! Metrics that belong together, each group made at once.

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::Maker;

/// When things last happened, and how far the position is from where it should be.
#[derive(Debug)]
pub struct Times {
    pub last_poll: GaugeVec,
    pub last_commit: GaugeVec,
    pub last_event: GaugeVec,
    pub position: GaugeVec,
    pub history_window: GaugeVec,
    pub headroom: GaugeVec,
    pub lag: GaugeVec,
}

impl Times {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            last_poll: make.gauge("last_poll_timestamp_seconds", "When the source last answered"),
            last_commit: make
                .gauge("last_commit_timestamp_seconds", "When the position was last committed"),
            last_event: make
                .gauge("last_event_timestamp_seconds", "Cluster time of the last event committed"),
            position: make
                .gauge("position_timestamp_seconds", "Cluster time of the stored position"),
            history_window: make
                .gauge("history_window_seconds", "History the source keeps; NaN where unknown"),
            headroom: make.gauge(
                "headroom_seconds",
                "Time until the stored position ages out; NaN where unknown",
            ),
            lag: make.gauge(
                "lag_seconds",
                "How far the stored position is behind the source, on its clock",
            ),
        }
    }
}

/// Incidents and what was sent about them.
#[derive(Debug)]
pub struct Notices {
    pub incident_open: IntGaugeVec,
    pub incident_writes: IntCounterVec,
    pub alerts_sent: IntCounterVec,
    pub outbox_pending: IntGauge,
}

impl Notices {
    pub(super) fn new(make: &Maker) -> Self {
        let outbox = IntGauge::with_opts(Maker::opts(
            "outbox_pending",
            "Incidents that a channel has still to be told of",
        ));
        Self {
            outbox_pending: make.keep(outbox),
            incident_open: make.int_gauge(
                "incident_open",
                "Incidents that are open",
                &["code", "severity"],
            ),
            incident_writes: make.counter(
                "incident_writes_total",
                "Incidents written down, by result",
                &["result"],
            ),
            alerts_sent: make.counter(
                "alerts_sent_total",
                "Notices sent, by channel and result",
                &["channel", "result"],
            ),
        }
    }
}

/// Committed batches, and how long a change took to get here.
#[derive(Debug)]
pub struct Batches {
    pub batch_events: HistogramVec,
    pub batch_commit_seconds: HistogramVec,
    pub end_to_end_latency: HistogramVec,
}

impl Batches {
    pub(super) fn new(make: &Maker) -> Self {
        Self {
            batch_events: make.histogram(
                "batch_events",
                "Events in a committed batch",
                vec![1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5],
            ),
            batch_commit_seconds: make.histogram(
                "batch_commit_seconds",
                "Time to write and commit a batch",
                SECONDS.to_vec(),
            ),
            end_to_end_latency: make.histogram(
                "end_to_end_latency_seconds",
                "From the write in the source to the commit here",
                SECONDS.to_vec(),
            ),
        }
    }
}

/// Walks of whole collections.
#[derive(Debug)]
pub struct Walks {
    pub ended: IntCounterVec,
    pub active: IntGaugeVec,
    pub documents_read: IntCounterVec,
    pub rows_upserted: IntCounterVec,
    pub rows_deleted: IntCounterVec,
    pub divergent: IntGaugeVec,
}

impl Walks {
    pub(super) fn new(make: &Maker) -> Self {
        let s = &["stream"];
        Self {
            ended: make.counter(
                "resyncs_total",
                "Walks of the whole collection that ended",
                &["stream", "reason", "result"],
            ),
            active: make.int_gauge("resync_active", "1 while the collection is being walked", s),
            documents_read: make.counter(
                "resync_documents_read_total",
                "Documents read by walks",
                s,
            ),
            rows_upserted: make.counter("resync_rows_upserted_total", "Rows written by walks", s),
            rows_deleted: make.counter("resync_rows_deleted_total", "Rows deleted by sweeps", s),
            divergent: make.int_gauge(
                "divergent_documents",
                "Documents that the last scheduled comparison found missing, extra or different",
                s,
            ),
        }
    }
}

const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];
