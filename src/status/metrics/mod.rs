//! The metrics: one registry, every series there from the start at zero. Names: docs/reference.md,
//! "Metrics".
//!
//! Up to [`BY_STREAM_MAX`] streams a series is a stream's; beyond, those of position, lag, phase
//! and errors are, and every other is the sum over a group. Counters count as things happen; gauges
//! are set from the reports when somebody asks.

mod batch;
mod maker;
mod notice;
mod reading;
mod resync;
mod stream;
mod time;

use std::sync::{Mutex, PoisonError};

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntCounter, Registry, TextEncoder};

pub use batch::{BatchSeries, BatchSizes};

use self::batch::Batches;
use self::maker::Maker;
use self::notice::Notices;
use self::resync::Walks;
use self::stream::Streams;
use self::time::Times;
use super::group_report::GroupReport;
use super::stream_report::StreamReport;

/// So many streams have series of their own for everything.
pub const BY_STREAM_MAX: usize = 100;

/// Every metric, by its name without the prefix.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    by_group: bool,
    pub streams: Streams,
    times: Times,
    pub batches: Batches,
    pub walks: Walks,
    pub notices: Notices,
    pub log_lines_dropped: IntCounter,
    /// Held by whoever reads: gauges are set and read in one.
    reading: Mutex<()>,
}

impl Metrics {
    /// `groups`: their names, with those of their streams.
    pub fn new(groups: &[(&str, &[String])]) -> Self {
        let make = Maker::new();
        let build = make.int_gauge(
            "build_info",
            "Always 1; the labels tell the build",
            &["version", "commit"],
        );
        build.with_label_values(&[crate::VERSION, crate::COMMIT]).set(1);
        let streams: usize = groups.iter().map(|(_, streams)| streams.len()).sum();
        let by_group = streams > BY_STREAM_MAX;
        let by = if by_group { "group" } else { "stream" };
        let metrics = Self {
            by_group,
            streams: Streams::new(&make, by),
            times: Times::new(&make, by),
            batches: Batches::new(&make, by),
            walks: Walks::new(&make, by),
            notices: Notices::new(&make),
            log_lines_dropped: make.one_counter(
                "log_lines_dropped_total",
                "Lines of the log that nobody read in time",
            ),
            registry: make.registry(),
            reading: Mutex::default(),
        };
        for (name, streams) in groups {
            for label in metrics.labels_of(name, streams) {
                metrics.streams.start(&label);
                metrics.batches.start(&label);
                metrics.walks.start(&label);
            }
        }
        metrics.notices.start();
        metrics
    }

    /// Whether series are sums by group.
    pub const fn is_by_group(&self) -> bool {
        self.by_group
    }

    /// What the series of a stream are labelled with.
    pub const fn label_of<'a>(&self, stream: &'a str, group: &'a str) -> &'a str {
        if self.by_group { group } else { stream }
    }

    /// What the series of a group are labelled with.
    pub fn labels_of(&self, group: &str, streams: &[String]) -> Vec<String> {
        if self.by_group { vec![group.to_owned()] } else { streams.to_vec() }
    }

    /// The Prometheus text, with what the reports say.
    pub fn text(&self, groups: &[GroupReport], streams: &[StreamReport]) -> String {
        let mut out = Vec::new();
        let _ = TextEncoder::new().encode(&self.families(groups, streams), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// The metrics, with what the reports say.
    pub fn families(&self, groups: &[GroupReport], streams: &[StreamReport]) -> Vec<MetricFamily> {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(groups, streams);
        self.registry.gather()
    }
}
