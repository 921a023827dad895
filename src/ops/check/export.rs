//! Whether who collects traces and metrics takes them.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;

use super::finding::Finding;
use crate::error::{Class, Code, Fault};
use crate::http_client;
use crate::settings::{Collector, collector_headers};

const TIMEOUT: Duration = Duration::from_secs(5);

/// A finding for each signal that is sent; none where nobody collects.
pub(super) async fn export(collector: &Collector) -> Vec<Finding> {
    let mut findings = Vec::new();
    let signals = [("traces", collector.traces), ("metrics", collector.metrics)];
    for (signal, _) in signals.iter().filter(|(_, is_sent)| *is_sent) {
        if collector.endpoint.is_empty() {
            break;
        }
        findings.push(Finding::of(format!("collector of {signal}"), ask(collector, signal).await));
    }
    findings
}

/// Sends a request that holds nothing: an empty message is one of OTLP without a span or a metric.
async fn ask(collector: &Collector, signal: &str) -> Result<String, Fault> {
    let fault = |class, said: String| {
        let hint = "see [telemetry] in the configuration: endpoint (without /v1/…), headers";
        Fault::new(class, Code::ChannelFailing, said, hint)
    };
    let url = format!("{}/v1/{signal}", collector.endpoint);
    let headers = collector_headers(collector.headers.now().expose()).unwrap_or_default();
    let request = http_client::client().post(url).timeout(TIMEOUT).headers(headers);
    let request = request.header(CONTENT_TYPE, "application/x-protobuf").body(Vec::new());
    let answer = request.send().await.map_err(|error| {
        let error = error.without_url();
        let said = if error.is_timeout() { "no answer in time".into() } else { error.to_string() };
        fault(Class::Transient, said)
    })?;
    match answer.status() {
        status if status.is_success() => Ok("takes an empty request".to_owned()),
        status if status.is_server_error() => {
            Err(fault(Class::Transient, format!("answers with {status}")))
        }
        status => Err(fault(Class::Halt, format!("answers with {status}"))),
    }
}
