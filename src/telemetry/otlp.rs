//! Spans and metrics as the messages of OTLP, in their binary form, which every collector takes.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prometheus::proto as served;
use prometheus::proto::{LabelPair, MetricFamily, MetricType};

use crate::spans::{Attribute, EndedSpan};

/// Who says it: pairs of a name and a value.
pub(super) fn resource(attributes: &[(&str, &str)]) -> Resource {
    let attributes = attributes.iter().map(|(name, value)| text(name, value)).collect();
    Resource { attributes, ..Resource::default() }
}

/// A request to `/v1/traces`.
pub(super) fn traces<'a>(
    resource: &Resource,
    spans: impl IntoIterator<Item = &'a EndedSpan>,
) -> ExportTraceServiceRequest {
    let spans = spans.into_iter().map(span).collect();
    let of_scope = ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() };
    let of_resource = ResourceSpans {
        resource: Some(resource.clone()),
        scope_spans: vec![of_scope],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![of_resource] }
}

/// A request to `/v1/metrics`: counts and sums are those since then.
pub(super) fn metrics(
    resource: &Resource,
    families: &[MetricFamily],
    since: SystemTime,
    now: SystemTime,
) -> ExportMetricsServiceRequest {
    let at = Times { since: nanos(since), now: nanos(now) };
    let metrics = families.iter().filter_map(|family| at.metric(family)).collect();
    let of_scope = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
    let of_resource = ResourceMetrics {
        resource: Some(resource.clone()),
        scope_metrics: vec![of_scope],
        ..ResourceMetrics::default()
    };
    ExportMetricsServiceRequest { resource_metrics: vec![of_resource] }
}

fn scope() -> InstrumentationScope {
    let (name, version) = ("tidemark".to_owned(), crate::VERSION.to_owned());
    InstrumentationScope { name, version, ..InstrumentationScope::default() }
}

fn attribute(name: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: name.to_owned(), value, ..KeyValue::default() }
}

fn text(name: &str, value: &str) -> KeyValue {
    attribute(name, Value::StringValue(value.to_owned()))
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn span(span: &EndedSpan) -> Span {
    let attributes = span.attributes.iter().map(|(name, value)| match value {
        Attribute::Text(value) => text(name, value),
        Attribute::Count(count) => {
            attribute(name, Value::IntValue(i64::try_from(*count).unwrap_or(i64::MAX)))
        }
    });
    let code = if span.has_failed { StatusCode::Error } else { StatusCode::Unset };
    Span {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: span.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        name: span.name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: nanos(span.begun),
        end_time_unix_nano: nanos(span.ended),
        attributes: attributes.collect(),
        status: Some(Status { code: code.into(), ..Status::default() }),
        ..Span::default()
    }
}

struct Times {
    since: u64,
    now: u64,
}

impl Times {
    /// A family under the name it has in `/metrics`. A gauge of which nothing is known is not told.
    fn metric(&self, family: &MetricFamily) -> Option<Metric> {
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let of = family.get_metric().iter();
        let data = match family.get_field_type() {
            MetricType::COUNTER => {
                let points = of.filter_map(|one| self.number(one, one.get_counter().get_value()));
                let data_points = points.collect();
                Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
            }
            MetricType::GAUGE => {
                let points = of.filter_map(|one| self.number(one, one.get_gauge().get_value()));
                Data::Gauge(Gauge { data_points: points.collect() })
            }
            MetricType::HISTOGRAM => {
                let data_points = of.map(|one| self.histogram(one)).collect();
                Data::Histogram(Histogram { data_points, aggregation_temporality })
            }
            MetricType::SUMMARY | MetricType::UNTYPED => return None,
        };
        let is_empty = matches!(&data, Data::Gauge(gauge) if gauge.data_points.is_empty());
        let (name, description) = (family.name().to_owned(), family.help().to_owned());
        let metric = Metric { name, description, data: Some(data), ..Metric::default() };
        (!is_empty).then_some(metric)
    }

    fn number(&self, one: &served::Metric, value: f64) -> Option<NumberDataPoint> {
        let point = NumberDataPoint {
            attributes: labels(one.get_label()),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            value: Some(Number::AsDouble(value)),
            ..NumberDataPoint::default()
        };
        value.is_finite().then_some(point)
    }

    /// Prometheus counts up to each bound, OTLP between them, and beyond the last.
    fn histogram(&self, one: &served::Metric) -> HistogramDataPoint {
        let histogram = one.get_histogram();
        let mut point = HistogramDataPoint {
            attributes: labels(one.get_label()),
            start_time_unix_nano: self.since,
            time_unix_nano: self.now,
            count: histogram.get_sample_count(),
            sum: Some(histogram.get_sample_sum()),
            ..HistogramDataPoint::default()
        };
        let mut before = 0;
        for bucket in histogram.get_bucket() {
            if bucket.upper_bound().is_finite() {
                point.explicit_bounds.push(bucket.upper_bound());
                point.bucket_counts.push(bucket.cumulative_count().saturating_sub(before));
                before = bucket.cumulative_count();
            }
        }
        point.bucket_counts.push(point.count.saturating_sub(before));
        point
    }
}

fn labels(labels: &[LabelPair]) -> Vec<KeyValue> {
    labels.iter().map(|label| text(label.name(), label.value())).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::{HistogramOpts, IntCounterVec, Opts, Registry};

    use super::*;

    #[test]
    fn what_is_counted_up_to_a_bound_is_told_between_bounds_and_the_unknown_is_not_told() {
        let registry = Registry::new();
        let counter = IntCounterVec::new(Opts::new("events_total", "Events"), &["stream"]).unwrap();
        counter.with_label_values(&["doctor"]).inc_by(3);
        let unknown = prometheus::Gauge::new("unknown", "Nothing is known").unwrap();
        unknown.set(f64::NAN);
        let opts = HistogramOpts::new("seconds", "Took").buckets(vec![0.1, 1.0]);
        let histogram = prometheus::Histogram::with_opts(opts).unwrap();
        for took in [0.05, 0.5, 0.5, 7.0] {
            histogram.observe(took);
        }
        for metric in [
            Box::new(counter) as Box<dyn prometheus::core::Collector>,
            Box::new(unknown),
            Box::new(histogram),
        ] {
            registry.register(metric).unwrap();
        }
        let (since, now) = (UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1));
        let request = metrics(&resource(&[("service.name", "s")]), &registry.gather(), since, now);
        let [events, seconds] = &request.resource_metrics[0].scope_metrics[0].metrics[..] else {
            panic!("two metrics: {request:?}");
        };
        let Some(Data::Sum(sum)) = &events.data else { panic!("{events:?}") };
        assert_eq!((&*events.name, sum.is_monotonic), ("events_total", true));
        let point = &sum.data_points[0];
        assert_eq!(point.value, Some(Number::AsDouble(3.0)));
        assert_eq!(point.attributes, [text("stream", "doctor")]);
        assert_eq!(point.time_unix_nano, 1_000_000_000);
        let Some(Data::Histogram(histogram)) = &seconds.data else { panic!("{seconds:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, &point.bucket_counts[..]), (4, &[1, 2, 1][..]));
        assert_eq!(point.explicit_bounds, [0.1, 1.0]);
    }

    #[test]
    fn a_span_has_its_ids_times_and_whether_it_failed() {
        let begun = UNIX_EPOCH + Duration::from_nanos(7);
        let ended = EndedSpan {
            trace: 0xab,
            id: 0xcd,
            parent: Some(0xef),
            name: "apply",
            begun,
            ended: begun + Duration::from_nanos(1),
            attributes: vec![("events", Attribute::Count(2))],
            has_failed: true,
        };
        let span = span(&ended);
        assert_eq!((span.trace_id.len(), span.trace_id[15]), (16, 0xab));
        assert_eq!(span.span_id, [0, 0, 0, 0, 0, 0, 0, 0xcd]);
        assert_eq!(span.parent_span_id[7], 0xef);
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (7, 8));
        assert_eq!(span.attributes, [attribute("events", Value::IntValue(2))]);
        assert_eq!(span.status.unwrap().code, i32::from(StatusCode::Error));
    }
}
