//! Logs: lines for people on a terminal, JSON elsewhere. Every JSON line carries service and
//! environment. The last lines are kept as crumbs for whoever reports an incident; a line never
//! becomes a report of its own. Traces and metrics, where somebody collects them, go by OTLP.

mod exporter;
mod log_writer;
mod otlp;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, reload};

pub use exporter::Exporter;
pub use log_writer::{flush, lines_dropped};

use crate::model::shown::shown_json;
use crate::settings::{LogFormat, Settings};

/// How long a panic waits for its own line to be written: the process may end by it.
const PANIC_FLUSH: Duration = Duration::from_millis(200);

/// Starts logging to standard error, once for the process. Nobody who logs waits for whoever reads
/// it.
///
/// # Errors
/// `log.filter` cannot be parsed, there is no standard error, or logging was started before.
pub fn start(settings: &Settings) -> Result<(), String> {
    let (filter, handle) = reload::Layer::new(filter(settings)?);
    let _ = FILTER.set(handle);
    let terminal = std::io::stderr().is_terminal();
    let pretty = match settings.log.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    log_writer::start().map_err(|error| format!("standard error cannot be written to: {error}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| log_writer::Lines)
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter).with(Crumbs);
    let started = if pretty {
        registry.with(lines.with_ansi(terminal).with_target(false)).try_init()
    } else {
        let format = JsonLines {
            service: settings.service.clone(),
            environment: settings.environment.clone(),
        };
        registry.with(lines.event_format(format)).try_init()
    };
    started.map_err(|error| error.to_string())
}

/// Where the filter in use can be exchanged.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// What the log lets through from now on.
///
/// # Errors
/// `log.filter` cannot be parsed.
pub fn refilter(settings: &Settings) -> Result<(), String> {
    exchange(filter(settings)?)
}

/// The same by another filter than the configuration's.
///
/// # Errors
/// It cannot be parsed.
pub fn filter_by(text: &str) -> Result<(), String> {
    exchange(parse(&level_filter(text)?)?)
}

fn exchange(filter: EnvFilter) -> Result<(), String> {
    FILTER.get().map_or(Ok(()), |handle| handle.reload(filter).map_err(|error| error.to_string()))
}

/// # Errors
/// `log.filter` cannot be parsed.
pub fn filter(settings: &Settings) -> Result<EnvFilter, String> {
    parse(&settings.log.filter).map_err(|wrong| format!("log.filter {wrong}"))
}

/// A filter that a person gives for a while: as `log.filter`, but every part of it names a level,
/// since a word that is none would be taken for a part of the program.
///
/// # Errors
/// It is none, and how one looks.
pub fn level_filter(text: &str) -> Result<String, String> {
    let names_a_level = |part: &str| {
        let level = part.rsplit('=').next().unwrap_or_default().trim();
        level.parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
            && !level.is_empty()
            && level.bytes().all(|b| b.is_ascii_alphabetic())
    };
    let is_short = text.len() <= FILTER_BYTES_MAX;
    let is_one = is_short && text.split(',').all(names_a_level) && parse(text).is_ok();
    let wrong = || "is not a filter such as \"debug\" or \"info,tidemark::source=trace\"";
    if is_one { Ok(text.to_owned()) } else { Err(wrong().to_owned()) }
}

const FILTER_BYTES_MAX: usize = 1000;

fn parse(text: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::try_new(text)
        .map_err(|_| "is not a filter such as \"info\" or \"info,tidemark=debug\"".to_owned())?;
    // What a trigger says by RAISE WARNING or the like holds whatever its author put in; what asks
    // AWS for keys tells what it was answered. Why there is no key, our own fault says.
    Ok(["sqlx::postgres::notice=off", "aws_=off"]
        .into_iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive))
}

/// What a panic says, and to whom beside the log. Only where it happened is told, and what stands
/// in the code: what a panic formats may hold a document's value.
pub fn on_panic(tell: impl Fn(&str) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |info| {
        let place = info
            .location()
            .map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let said =
            info.payload().downcast_ref::<&'static str>().copied().unwrap_or("(values left out)");
        let what = format!("panic{place}: {said}");
        tracing::error!("{what}");
        flush(PANIC_FLUSH);
        tell(&what);
    }));
}

/// A line of the log, kept for a while.
#[derive(Debug, Clone)]
pub struct Crumb {
    pub at: SystemTime,
    pub level: tracing::Level,
    pub target: &'static str,
    pub message: String,
    pub fields: BTreeMap<String, Value>,
}

const CRUMBS_MAX: usize = 50;
static CRUMBS: Mutex<VecDeque<Crumb>> = Mutex::new(VecDeque::new());

/// The last lines of the log at INFO or worse, oldest first.
pub fn crumbs() -> Vec<Crumb> {
    CRUMBS.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

struct Crumbs;

impl<S: Subscriber> Layer<S> for Crumbs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if *metadata.level() > tracing::Level::INFO {
            return;
        }
        let mut fields = Map::new();
        event.record(&mut Fields(&mut fields));
        let message = fields
            .remove("message")
            .and_then(|text| text.as_str().map(str::to_owned))
            .unwrap_or_default();
        let crumb = Crumb {
            at: SystemTime::now(),
            level: *metadata.level(),
            target: metadata.target(),
            message,
            fields: fields.into_iter().collect(),
        };
        let mut crumbs = CRUMBS.lock().unwrap_or_else(PoisonError::into_inner);
        if crumbs.len() == CRUMBS_MAX {
            crumbs.pop_front();
        }
        crumbs.push_back(crumb);
    }
}

/// One JSON object a line: timestamp, level, service, environment, message, then the event's
/// fields.
struct JsonLines {
    service: String,
    environment: String,
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let now = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let mut line = Map::new();
        line.insert("timestamp".to_owned(), json!(now));
        line.insert("level".to_owned(), json!(event.metadata().level().as_str()));
        line.insert("service".to_owned(), json!(self.service));
        line.insert("environment".to_owned(), json!(self.environment));
        line.insert("target".to_owned(), json!(event.metadata().target()));
        event.record(&mut Fields(&mut line));
        writeln!(out, "{}", shown_json(&Value::Object(line).to_string()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_persons_filter_names_levels_and_is_none_by_a_slip() {
        for filter in ["debug", "off", "WARN", "info,tidemark::source=trace", "error,sqlx=debug"] {
            assert_eq!(level_filter(filter).as_deref(), Ok(filter));
        }
        let long = "info,".repeat(300);
        for slip in ["", "inof", "tidemark", "7", "info,", "=", "tidemark=inof", "=[", &long] {
            assert!(level_filter(slip).unwrap_err().contains("is not a filter"), "{slip}");
        }
    }
}
