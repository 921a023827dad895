//! A stand-in for an OpenTelemetry collector: takes OTLP over HTTP, reads it by the protocol's own
//! messages, refuses what a real one would refuse, and keeps the rest as the protocol's JSON.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Metric};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::Value;

use crate::fakes::serve_until;
use crate::{Behaviour, Result};

/// What it asks of each request.
pub const HEADERS: &str = "x-fake-key=collect,x-other=a=b";

#[derive(Debug)]
struct Received {
    behaviour: Behaviour,
    /// Each request's path and body.
    requests: Vec<(String, Value)>,
    refused: Vec<String>,
    asked: usize,
    /// Requests that have no answer, and whose client still waits for one.
    waiting: usize,
    given_up: usize,
}

/// It listens on a loopback port until it is dropped.
#[derive(Clone)]
pub struct Collector {
    port: u16,
    received: Arc<Mutex<Received>>,
    _stop: Arc<tokio::sync::oneshot::Sender<()>>,
}

type Shared = Arc<Mutex<Received>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Received> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector {
    pub fn start() -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let received = Arc::new(Mutex::new(Received {
            behaviour: Behaviour::Normal,
            requests: Vec::new(),
            refused: Vec::new(),
            asked: 0,
            waiting: 0,
            given_up: 0,
        }));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let router = Router::new()
            .route("/v1/traces", post(take))
            .route("/v1/metrics", post(take))
            .layer(axum::extract::DefaultBodyLimit::max(20 << 20))
            .with_state(Arc::clone(&received));
        serve_until(listener, router, stopped);
        Ok(Self { port, received, _stop: Arc::new(stop) })
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        lock(&self.received).behaviour = behaviour;
    }

    /// How many requests came, whatever became of them.
    pub fn asked(&self) -> usize {
        lock(&self.received).asked
    }

    /// How many requests wait for an answer that never comes, and how many waited in vain.
    pub fn waiting(&self) -> (usize, usize) {
        let received = lock(&self.received);
        (received.waiting, received.given_up)
    }

    /// What was not as the protocol has it.
    pub fn refused(&self) -> Vec<String> {
        lock(&self.received).refused.clone()
    }

    /// Every span that was taken, with its resource.
    pub fn spans(&self) -> Vec<Value> {
        self.all("/v1/traces", "resourceSpans", "scopeSpans", "spans")
    }

    /// Every metric that was taken, later ones last.
    pub fn metrics(&self) -> Vec<Value> {
        self.all("/v1/metrics", "resourceMetrics", "scopeMetrics", "metrics")
    }

    /// The attributes of the resources that sent something.
    pub fn resources(&self) -> Vec<Value> {
        let requests = &lock(&self.received).requests;
        let of = |(_, body): &(String, Value)| {
            let outer = body.as_object()?.values().next()?;
            Some(outer[0]["resource"]["attributes"].clone())
        };
        requests.iter().filter_map(of).collect()
    }

    /// Everything that was taken, as text.
    pub fn raw(&self) -> String {
        let requests = &lock(&self.received).requests;
        requests.iter().map(|(path, body)| format!("{path} {body}\n")).collect()
    }

    fn all(&self, path: &str, outer: &str, inner: &str, list: &str) -> Vec<Value> {
        let requests = &lock(&self.received).requests;
        let bodies = requests.iter().filter(|(of, _)| of == path).map(|(_, body)| body);
        let empty = Vec::new();
        let of = |value: &Value, key: &str| value[key].as_array().unwrap_or(&empty).clone();
        bodies
            .flat_map(|body| of(body, outer))
            .flat_map(|resource| of(&resource, inner))
            .flat_map(|scope| of(&scope, list))
            .collect()
    }
}

/// A request that is never answered: dropped once its client has gone.
struct Waiting(Shared);

impl Waiting {
    async fn for_ever(shared: Shared) {
        lock(&shared).waiting += 1;
        let _waiting = Self(shared);
        std::future::pending::<()>().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut received = lock(&self.0);
        received.waiting -= 1;
        received.given_up += 1;
    }
}

async fn take(State(shared): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let behaviour = {
        let mut received = lock(&shared);
        received.asked += 1;
        received.behaviour.clone()
    };
    match behaviour {
        Behaviour::Status(code) => return StatusCode::from_u16(code).unwrap().into_response(),
        Behaviour::Hangs => Waiting::for_ever(Arc::clone(&shared)).await,
        _ => {}
    }
    match judge(uri.path(), &headers, &body) {
        Ok(body) => {
            lock(&shared).requests.push((uri.path().to_owned(), body));
            // An empty answer: nothing was refused.
            StatusCode::OK.into_response()
        }
        Err(why) => {
            lock(&shared).refused.push(why.clone());
            (StatusCode::BAD_REQUEST, why).into_response()
        }
    }
}

fn judge(path: &str, headers: &HeaderMap, body: &[u8]) -> std::result::Result<Value, String> {
    let said = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if said("content-type") != Some("application/x-protobuf") {
        return Err(format!("content-type is {:?}", said("content-type")));
    }
    if said("x-fake-key") != Some("collect") || said("x-other") != Some("a=b") {
        return Err("the headers are not said".to_owned());
    }
    let json = if path == "/v1/traces" {
        let request = ExportTraceServiceRequest::decode(body).map_err(|error| error.to_string())?;
        let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans);
        spans.flat_map(|of| &of.spans).try_for_each(judge_span)?;
        serde_json::to_value(&request)
    } else {
        let request = ExportMetricsServiceRequest::decode(body);
        let request = request.map_err(|error| error.to_string())?;
        let metrics = request.resource_metrics.iter().flat_map(|of| &of.scope_metrics);
        metrics.flat_map(|of| &of.metrics).try_for_each(judge_metric)?;
        serde_json::to_value(&request)
    };
    json.map_err(|error| error.to_string())
}

fn judge_span(span: &Span) -> std::result::Result<(), String> {
    let is_id = |id: &[u8], length| id.len() == length && id.iter().any(|byte| *byte != 0);
    let has_ids = is_id(&span.trace_id, 16)
        && is_id(&span.span_id, 8)
        && (span.parent_span_id.is_empty() || is_id(&span.parent_span_id, 8));
    let has_times = 0 < span.start_time_unix_nano
        && span.start_time_unix_nano <= span.end_time_unix_nano
        && !span.name.is_empty();
    if has_ids && has_times { Ok(()) } else { Err(format!("not a span: {span:?}")) }
}

fn judge_metric(metric: &Metric) -> std::result::Result<(), String> {
    let holds = match &metric.data {
        Some(Data::Sum(sum)) => {
            sum.aggregation_temporality == i32::from(AggregationTemporality::Cumulative)
                && sum.data_points.iter().all(|point| point.value.is_some())
        }
        Some(Data::Gauge(gauge)) => {
            !gauge.data_points.is_empty()
                && gauge.data_points.iter().all(|point| point.value.is_some())
        }
        Some(Data::Histogram(histogram)) => histogram.data_points.iter().all(|point| {
            point.bucket_counts.len() == point.explicit_bounds.len() + 1
                && point.bucket_counts.iter().sum::<u64>() == point.count
                && point.start_time_unix_nano < point.time_unix_nano
        }),
        _ => false,
    };
    if holds { Ok(()) } else { Err(format!("not a metric: {metric:?}")) }
}
