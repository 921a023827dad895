//! Makes metrics and registers them, each under the prefix of all.

use prometheus::core::Collector;
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

const PREFIX: &str = "tidemark";

pub struct Maker(Registry);

#[expect(
    clippy::expect_used,
    reason = "names and labels are constants: a clash or a bad name fails every test at once"
)]
impl Maker {
    pub fn new() -> Self {
        Self(Registry::new())
    }

    /// What all was registered with.
    pub fn registry(self) -> Registry {
        self.0
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace(PREFIX)
    }

    fn keep<M: Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("a valid metric");
        self.0.register(Box::new(metric.clone())).expect("a metric registered once");
        metric
    }

    pub fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.keep(IntCounterVec::new(Self::opts(name, help), labels))
    }

    pub fn one_counter(&self, name: &str, help: &str) -> IntCounter {
        self.keep(IntCounter::with_opts(Self::opts(name, help)))
    }

    pub fn int_gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.keep(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    pub fn one_int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.keep(IntGauge::with_opts(Self::opts(name, help)))
    }

    pub fn gauge(&self, name: &str, help: &str, label: &str) -> GaugeVec {
        self.keep(GaugeVec::new(Self::opts(name, help), &[label]))
    }

    pub fn histogram(
        &self,
        name: &str,
        help: &str,
        label: &str,
        buckets: Vec<f64>,
    ) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).namespace(PREFIX).buckets(buckets);
        self.keep(HistogramVec::new(opts, &[label]))
    }
}
