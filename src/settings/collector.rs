//! `[telemetry]`: who collects traces and metrics, if anybody does.

use std::time::Duration;

use super::secret::Secret;
use super::trust::is_guarded;
use super::values::Reader;

#[derive(Debug, Clone)]
pub struct Collector {
    /// Where it is, without the paths of its signals; nobody collects if empty.
    pub endpoint: String,
    /// What is said with each request: `name=value`, separated by commas.
    pub headers: Secret,
    pub traces: bool,
    pub metrics: bool,
    /// How often metrics are sent.
    pub interval: Duration,
}

impl Collector {
    pub(super) fn read(r: &mut Reader) -> Self {
        let collector = Self {
            endpoint: r.text("telemetry.endpoint").trim_end_matches('/').to_owned(),
            headers: r.secret("telemetry.headers"),
            traces: r.boolean("telemetry.traces"),
            metrics: r.boolean("telemetry.metrics"),
            interval: r.duration("telemetry.interval"),
        };
        let insecure = r.boolean("telemetry.insecure");
        let endpoint = &collector.endpoint;
        let is_plain = insecure && endpoint.starts_with("http://");
        r.check(
            "telemetry.endpoint",
            endpoint.is_empty() || is_plain || is_guarded(endpoint),
            "must begin with https://; http:// only to this machine, or with telemetry.insecure",
        );
        let are_headers = headers(collector.headers.expose()).is_some();
        r.check("telemetry.headers", are_headers, "must be name=value, separated by commas");
        let is_seldom = collector.interval >= Duration::from_secs(1);
        r.check("telemetry.interval", is_seldom, "must be at least 1s");
        collector
    }
}

/// Names and values; `None` if one of them is no header.
pub fn headers(text: &str) -> Option<reqwest::header::HeaderMap> {
    let given = text.split(',').map(str::trim).filter(|header| !header.is_empty());
    given
        .map(|header| {
            let (name, value) = header.split_once('=')?;
            let name = reqwest::header::HeaderName::try_from(name.trim()).ok()?;
            let mut value = reqwest::header::HeaderValue::try_from(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::headers;

    #[test]
    fn headers_are_names_and_values() {
        let found = headers("api-key=abc, Authorization=Basic dXNlcjpwYXNz== ,").unwrap();
        assert_eq!(found["api-key"], "abc");
        assert_eq!(found["authorization"], "Basic dXNlcjpwYXNz==");
        assert!(headers("").unwrap().is_empty());
        for wrong in ["key", "a b=c", "=c", "a=\u{1}"] {
            assert_eq!(headers(wrong), None, "{wrong}");
        }
    }
}
