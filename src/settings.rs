//! Configuration: layers in, one typed [`Settings`] out, or every error at once.
//!
//! The keys, their defaults and meanings are `config/default.toml`; a key is known if it stands
//! there. Never prints a secret: [`Settings::print`] shows `***`, errors name keys and layers, not
//! values of secrets.

mod ends;
mod layers;
mod listen;
mod origin;
mod secret;
mod stream;
mod trust;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

pub use ends::{SourceSettings, TargetSettings};
pub use layers::DEFAULTS;
pub use origin::{Origin, Problem, Problems};
pub use secret::{Patience, Secret, output_of};
pub use stream::{Column, PostImage, StreamSettings};
pub use trust::{authorities, stays_here};

use crate::model::owner::Owner;
use layers::Layers;
use trust::is_guarded;
use values::Reader;

/// Everything `tidemark` is told. Section by section as in `config/default.toml`.
#[derive(Debug, Clone)]
pub struct Settings {
    pub environment: String,
    pub service: String,
    pub source: SourceSettings,
    pub target: TargetSettings,
    pub migrate: Migrate,
    pub batch: BatchSettings,
    pub checkpoint: Checkpoint,
    pub resync: Resync,
    pub compare: Compare,
    pub record: Record,
    pub row: RowLimits,
    pub lease: LeaseSettings,
    pub retry: Retry,
    pub retention: Retention,
    pub status: Status,
    pub alert: Alert,
    pub log: Log,
    pub streams: Vec<StreamSettings>,
    printed: String,
}

#[derive(Debug, Clone, Copy)]
pub struct Migrate {
    /// Whether `run` may change a schema by itself.
    pub automatic: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct BatchSettings {
    pub events_max: usize,
    pub bytes_max: usize,
    pub linger: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    pub idle_interval: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Resync {
    pub automatic: bool,
    pub automatic_per_day_max: u64,
    pub chunk_documents: usize,
    /// 0 = no limit.
    pub documents_per_second_max: u64,
    pub duration_max: Duration,
    pub delete_fraction_max: f64,
    pub delete_count_min: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Compare {
    /// How often each stream's table is compared with its source; never unless configured.
    pub interval: Option<Duration>,
    /// 0 = no limit.
    pub documents_per_second_max: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub dead_letter_fraction_max: f64,
    pub dead_letter_count_min: u64,
}

/// How large a document may be: one that is larger is set aside.
#[derive(Debug, Clone, Copy)]
pub struct RowLimits {
    /// Fields of documents, at any depth.
    pub fields_max: usize,
    /// Of the row as it is sent.
    pub bytes_max: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct LeaseSettings {
    pub duration: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// 0 = no limit.
    pub attempts_max: u64,
    pub delay_min: Duration,
    pub delay_max: Duration,
    pub escalate_after: Duration,
}

/// How long what is over is kept; for ever where there is none.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    pub dead_letter_resolved: Option<Duration>,
    pub incident: Option<Duration>,
    pub checkpoint_history: Option<Duration>,
    pub command: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct Status {
    pub listen: SocketAddr,
    /// Asked of everything but the probes; of nothing if empty.
    pub token: Secret,
    /// The names it answers to. Empty: any on loopback, else the listener's own.
    pub hosts: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct Alert {
    pub repeat_interval: Duration,
    pub resolve_hold: Duration,
    pub slack_bot_token: Secret,
    pub slack_channel: String,
    pub slack_webhook_url: Secret,
    pub slack_api_base: String,
    pub sentry_dsn: Secret,
    pub heartbeat_url: Secret,
    pub heartbeat_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Auto,
    Pretty,
    Json,
}

#[derive(Debug, Clone)]
pub struct Log {
    pub format: LogFormat,
    pub filter: String,
}

impl Settings {
    /// Reads every layer and validates the result.
    ///
    /// # Errors
    /// Everything that is wrong, at once: unknown keys, values of the wrong shape, unreadable
    /// files.
    pub fn load(origin: &Origin) -> Result<Self, Problems> {
        let mut reader = Reader::new(Layers::collect(origin));
        let settings = Self::read(&mut reader);
        settings.check_heartbeat(&mut reader);
        let (printed, problems) = reader.finish();
        if problems.is_empty() { Ok(Self { printed, ..settings }) } else { Err(Problems(problems)) }
    }

    /// Whose daemon it configures.
    pub fn owner(&self) -> Owner {
        Owner { service: self.service.clone(), environment: self.environment.clone() }
    }

    /// The effective configuration as TOML, each value with its layer, secrets as `***`.
    pub fn print(&self) -> &str {
        &self.printed
    }

    fn read(r: &mut Reader) -> Self {
        let lease = LeaseSettings { duration: r.duration("lease.duration") };
        r.check("lease.duration", lease.duration >= Duration::from_secs(2), "must be at least 2s");
        Self {
            environment: r.word("environment"),
            service: r.word("service"),
            source: SourceSettings::read(r),
            target: TargetSettings::read(r),
            migrate: Migrate { automatic: r.boolean("migrate.automatic") },
            batch: BatchSettings {
                events_max: r.count("batch.events_max", 1, 100_000),
                bytes_max: r.size("batch.bytes_max", 64 << 10, 256 << 20),
                linger: r.duration("batch.linger"),
            },
            checkpoint: Checkpoint { idle_interval: r.duration("checkpoint.idle_interval") },
            resync: Self::read_resync(r),
            compare: Compare {
                interval: r.optional_duration("compare.interval"),
                documents_per_second_max: r.integer("compare.documents_per_second_max"),
            },
            record: Record {
                dead_letter_fraction_max: r.fraction("record.dead_letter_fraction_max"),
                dead_letter_count_min: r.integer("record.dead_letter_count_min"),
            },
            row: RowLimits {
                fields_max: r.count("record.fields_max", 1, 10_000_000),
                bytes_max: r.size("record.row_bytes_max", 64 << 10, 256 << 20),
            },
            lease,
            retry: Self::read_retry(r),
            retention: Retention {
                dead_letter_resolved: r.optional_duration("retention.dead_letter_resolved"),
                incident: r.optional_duration("retention.incident"),
                checkpoint_history: r.optional_duration("retention.checkpoint_history"),
                command: r.optional_duration("retention.command"),
            },
            status: Status {
                listen: r.parsed("status.listen", "an address and port such as \"127.0.0.1:9464\""),
                token: Self::read_token(r),
                hosts: r.texts("status.hosts"),
            },
            alert: Self::read_alert(r),
            log: Log {
                format: r.one_of(
                    "log.format",
                    &[
                        ("auto", LogFormat::Auto),
                        ("pretty", LogFormat::Pretty),
                        ("json", LogFormat::Json),
                    ],
                ),
                filter: r.text("log.filter"),
            },
            streams: stream::read(r),
            printed: String::new(),
        }
    }

    /// A heartbeat in a followed collection would be followed.
    fn check_heartbeat(&self, r: &mut Reader) {
        let followed = self
            .streams
            .iter()
            .any(|s| Some(&s.collection) == self.source.heartbeat_collection.as_ref());
        r.check(
            "source.heartbeat_collection",
            !followed,
            "must be a collection of its own, not a followed one",
        );
        let often = self.source.heartbeat_interval >= Duration::from_millis(100);
        r.check("source.heartbeat_interval", often, "must be at least 100ms");
    }

    fn read_resync(r: &mut Reader) -> Resync {
        Resync {
            automatic: r.boolean("resync.automatic"),
            automatic_per_day_max: r.integer("resync.automatic_per_day_max"),
            chunk_documents: r.count("resync.chunk_documents", 1, 100_000),
            documents_per_second_max: r.integer("resync.documents_per_second_max"),
            duration_max: r.duration("resync.duration_max"),
            delete_fraction_max: r.fraction("resync.delete_fraction_max"),
            delete_count_min: r.integer("resync.delete_count_min"),
        }
    }

    fn read_retry(r: &mut Reader) -> Retry {
        let retry = Retry {
            attempts_max: r.integer("retry.attempts_max"),
            delay_min: r.duration("retry.delay_min"),
            delay_max: r.duration("retry.delay_max"),
            escalate_after: r.duration("retry.escalate_after"),
        };
        r.check(
            "retry.delay_min",
            retry.delay_min >= Duration::from_millis(1),
            "must be at least 1ms",
        );
        r.check(
            "retry.delay_max",
            retry.delay_max >= retry.delay_min,
            "must not be less than retry.delay_min",
        );
        retry
    }

    /// A file with nothing in it is one in the middle of being replaced: it opens no door.
    fn read_token(r: &mut Reader) -> Secret {
        let token = r.secret("status.token");
        let is_told = !token.is_empty() || !token.may_change();
        r.check("status.token_file", is_told, "names a file that is empty");
        token
    }

    fn read_alert(r: &mut Reader) -> Alert {
        let alert = Alert {
            repeat_interval: r.duration("alert.repeat_interval"),
            resolve_hold: r.duration("alert.resolve_hold"),
            slack_bot_token: r.secret("alert.slack.bot_token"),
            slack_channel: r.text("alert.slack.channel"),
            slack_webhook_url: r.secret("alert.slack.webhook_url"),
            slack_api_base: r.text("alert.slack.api_base"),
            sentry_dsn: r.secret("alert.sentry.dsn"),
            heartbeat_url: r.secret("alert.heartbeat.url"),
            heartbeat_interval: r.duration("alert.heartbeat.interval"),
        };
        let has_channel = alert.slack_bot_token.is_empty() || !alert.slack_channel.is_empty();
        r.check("alert.slack.channel", has_channel, "must be set when alert.slack.bot_token is");
        for (key, value) in [
            ("alert.slack.webhook_url", alert.slack_webhook_url.expose()),
            ("alert.slack.api_base", &alert.slack_api_base),
            ("alert.sentry.dsn", alert.sentry_dsn.expose()),
            ("alert.heartbeat.url", alert.heartbeat_url.expose()),
        ] {
            let guarded = value.is_empty() || is_guarded(value);
            r.check(
                key,
                guarded,
                "must begin with https://; http:// only to this machine, as others could read it",
            );
        }
        let dsn = &alert.sentry_dsn;
        let is_dsn = dsn.is_empty() || dsn.expose().parse::<sentry::types::Dsn>().is_ok();
        r.check(
            "alert.sentry.dsn",
            is_dsn,
            "is not a DSN: copy it from the project's page, https://KEY@HOST/PROJECT",
        );
        let often = alert.repeat_interval >= Duration::from_secs(1)
            && alert.heartbeat_interval >= Duration::from_secs(1);
        r.check("alert.repeat_interval", often, "and alert.heartbeat.interval must be at least 1s");
        alert
    }
}

#[cfg(test)]
mod tests;
