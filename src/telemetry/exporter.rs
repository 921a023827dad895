//! Sends spans and metrics to who collects them, by OTLP over HTTP. The data path knows nothing of
//! it: whoever does not answer costs this task its time and nobody else's.

use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::resource::v1::Resource;
use prometheus::proto::MetricFamily;
use prost::Message;
use reqwest::{Client, header};
use tokio::time::{Instant, MissedTickBehavior};

use super::otlp;
use crate::http_client;
use crate::settings::{Collector, Settings, collector_headers};
use crate::spans;

/// How often ended spans are sent.
const SPANS_EVERY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);

/// What goes to a collector of its own path, and is taken or refused by itself.
#[derive(Debug)]
struct Signal {
    name: &'static str,
    path: &'static str,
    due: Instant,
    is_refused: bool,
}

/// Sends what is collected; made only where somebody collects.
#[derive(Debug)]
pub struct Exporter {
    client: Client,
    collector: Collector,
    resource: Resource,
    since: SystemTime,
    traces: Signal,
    metrics: Signal,
}

impl Exporter {
    /// None where `telemetry.endpoint` is empty. `holder`: the process, for people.
    pub fn new(settings: &Settings, holder: &str) -> Option<Self> {
        let collector = settings.collector.clone();
        if collector.endpoint.is_empty() {
            return None;
        }
        let signal = |name, path| Signal { name, path, due: Instant::now(), is_refused: false };
        let resource = otlp::resource(&[
            ("service.name", &settings.service),
            ("service.version", crate::VERSION),
            ("service.instance.id", holder),
            ("deployment.environment.name", &settings.environment),
        ]);
        spans::collect(collector.traces);
        Some(Self {
            client: http_client::builder().timeout(TIMEOUT).build().unwrap_or_default(),
            collector,
            resource,
            since: SystemTime::now(),
            traces: signal("traces", "/v1/traces"),
            metrics: signal("metrics", "/v1/metrics"),
        })
    }

    /// For as long as it is let. `gather`: the metrics as they are.
    pub async fn run(mut self, gather: impl Fn() -> Vec<MetricFamily>) {
        let mut tick = tokio::time::interval(SPANS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.collector.traces && self.traces.due <= Instant::now() {
                self.send_spans().await;
            }
            if self.collector.metrics && self.metrics.due <= Instant::now() {
                let now = SystemTime::now();
                let request = otlp::metrics(&self.resource, &gather(), self.since, now);
                let taken = self.send(self.metrics.path, request.encode_to_vec()).await;
                self.metrics.due = Instant::now() + self.collector.interval;
                self.metrics.told(taken);
            }
        }
    }

    /// While they are not taken none are kept, until it is time to try again.
    async fn send_spans(&mut self) {
        spans::collect(true);
        let (ended, dropped) = spans::take();
        if dropped > 0 {
            tracing::debug!(dropped, "spans had no place");
        }
        if ended.is_empty() {
            return;
        }
        let request = otlp::traces(&self.resource, &ended);
        let taken = self.send(self.traces.path, request.encode_to_vec()).await;
        if taken.is_err() {
            spans::collect(false);
            self.traces.due = Instant::now() + self.collector.interval;
        }
        self.traces.told(taken);
    }

    async fn send(&self, path: &str, body: Vec<u8>) -> Result<(), String> {
        let headers = collector_headers(self.collector.headers.now().expose());
        let request = self
            .client
            .post(format!("{}{path}", self.collector.endpoint))
            .headers(headers.unwrap_or_default())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        let answer = request.send().await.map_err(|error| {
            let error = error.without_url();
            if error.is_timeout() { "no answer in time".to_owned() } else { error.to_string() }
        })?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("answered with {status}")) }
    }
}

impl Signal {
    /// Says so when it begins and when it is over.
    fn told(&mut self, taken: Result<(), String>) {
        let signal = self.name;
        let was_refused = std::mem::replace(&mut self.is_refused, taken.is_err());
        match taken {
            Ok(()) if was_refused => tracing::info!(signal, "the collector takes them again"),
            Err(why) if !was_refused => {
                tracing::warn!(signal, "the collector does not take them: {why}; see [telemetry]");
            }
            _ => {}
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        spans::collect(false);
    }
}
