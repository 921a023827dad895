//! Logs: lines for people on a terminal, JSON elsewhere. Every JSON line carries service and environment.

use std::fmt;
use std::io::IsTerminal;

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::settings::{LogFormat, Settings};

/// Starts logging to standard error, once for the process.
///
/// # Errors
/// `log.filter` cannot be parsed, or logging was started before.
pub fn start(settings: &Settings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.log.filter)
        .map_err(|_| "log.filter is not a filter such as \"info\" or \"info,tidemark=debug\"".to_owned())?;
    let terminal = std::io::stderr().is_terminal();
    let pretty = match settings.log.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if pretty {
        builder.with_ansi(terminal).with_target(false).try_init()
    } else {
        let lines = JsonLines { service: settings.service.clone(), environment: settings.environment.clone() };
        builder.event_format(lines).try_init()
    };
    started.map_err(|error| error.to_string())
}

/// One JSON object a line: timestamp, level, service, environment, message, then the event's fields.
struct JsonLines {
    service: String,
    environment: String,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), json!(now));
        line.insert("level".to_owned(), json!(event.metadata().level().as_str()));
        line.insert("service".to_owned(), json!(self.service));
        line.insert("environment".to_owned(), json!(self.environment));
        line.insert("target".to_owned(), json!(event.metadata().target()));
        event.record(&mut Fields(&mut line));
        writeln!(out, "{}", Value::Object(line))
    }
}

struct Fields<'m>(&'m mut Map<String, Value>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), json!(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), json!(value));
    }
}
