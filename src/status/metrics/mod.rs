//! The metrics: one registry, every series there from the start at zero. Names: docs/reference.md,
//! "Metrics".

mod batch;
mod maker;
mod notice;
mod resync;
mod stream;
mod time;

use prometheus::{Encoder, IntCounter, Registry, TextEncoder};

pub use batch::BatchSeries;
pub use time::seconds;

use self::batch::Batches;
use self::maker::Maker;
use self::notice::Notices;
use self::resync::Walks;
use self::stream::Streams;
use self::time::Times;

/// Every metric, by its name without the prefix.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub streams: Streams,
    pub times: Times,
    pub batches: Batches,
    pub walks: Walks,
    pub notices: Notices,
    pub log_lines_dropped: IntCounter,
}

impl Metrics {
    pub fn new(streams: &[String]) -> Self {
        let make = Maker::new();
        let build = make.int_gauge(
            "build_info",
            "Always 1; the labels tell the build",
            &["version", "commit"],
        );
        build.with_label_values(&[crate::VERSION, crate::COMMIT]).set(1);
        let metrics = Self {
            streams: Streams::new(&make),
            times: Times::new(&make),
            batches: Batches::new(&make),
            walks: Walks::new(&make),
            notices: Notices::new(&make),
            log_lines_dropped: make.one_counter(
                "log_lines_dropped_total",
                "Lines of the log that nobody read in time",
            ),
            registry: make.registry(),
        };
        metrics.start_at_zero(streams);
        metrics
    }

    fn start_at_zero(&self, streams: &[String]) {
        for stream in streams {
            self.streams.start(stream);
            self.times.start(stream);
            self.batches.start(stream);
            self.walks.start(stream);
        }
        self.notices.start();
    }

    /// The Prometheus text.
    pub fn text(&self) -> String {
        let mut out = Vec::new();
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}
