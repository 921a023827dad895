//! Configuration: layers in, one typed [`Settings`] out, or every error at once.
//!
//! The keys, their defaults and meanings are `config/default.toml`; a key is known if it stands
//! there. Never prints a secret: [`Settings::print`] shows `***`, errors name keys and layers, not
//! values of secrets.

mod alert;
mod child;
mod collector;
mod columns;
mod ends;
mod entry;
mod group;
mod json_schema;
mod keeping;
mod key_shape;
mod layers;
mod limits;
mod list_keys;
mod listen;
mod maintenance;
mod origin;
mod resync;
mod row_spec;
mod schedule;
mod secret;
mod selection;
mod stream;
mod trust;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

pub use alert::Alert;
pub use child::Child;
pub use collector::{Collector, headers as collector_headers};
pub use columns::Column;
pub use ends::{SourceSettings, TargetSettings};
pub use group::GroupSettings;
pub use keeping::Keeping;
pub use layers::DEFAULTS;
pub use limits::{Record, RowLimits};
pub use maintenance::{Maintenance, Window};
pub use origin::{Origin, Problem, Problems};
pub use resync::Resync;
pub use row_spec::RowSpec;
pub use schedule::Schedule;
pub use secret::{Patience, Secret, output_of};
pub use stream::{MAIN, PostImage, StreamSettings};
pub use trust::{authorities, stays_here};
pub use values::parse_duration;

use crate::model::namespace::{Namespace, Table};
use crate::model::owner::Owner;
use crate::model::redaction::MaskKey;
use layers::Layers;
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
    mask_key: Option<MaskKey>,
    pub lease: LeaseSettings,
    pub retry: Retry,
    pub retention: Retention,
    pub status: Status,
    pub alert: Alert,
    pub log: Log,
    /// Who collects traces and metrics.
    pub collector: Collector,
    pub streams: Vec<StreamSettings>,
    /// Those that have streams, in the order in which the streams name them.
    pub groups: Vec<GroupSettings>,
    printed: String,
    fingerprint: u64,
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
    /// Of what is in hand of all groups of the process together.
    pub bytes_total_max: usize,
}

#[derive(Debug, Clone, Copy)]
pub struct Checkpoint {
    pub idle_interval: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Compare {
    /// How often each stream's table is compared with its source; never unless configured.
    pub interval: Option<Duration>,
    /// 0 = no limit.
    pub documents_per_second_max: u64,
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
    /// Of versions, from when they were replaced.
    pub history: Option<Duration>,
}

#[derive(Debug, Clone)]
pub struct Status {
    pub listen: SocketAddr,
    /// Asked of everything but the probes; of nothing if empty.
    pub token: Secret,
    /// The names it answers to. Empty: any on loopback, else the listener's own.
    pub hosts: Vec<String>,
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

/// What a batch is not made smaller than, however many groups there are.
const BATCH_BYTES_LEAST: usize = 64 << 10;

/// Connections beside those of the groups' writers and the shared ones: two of the incidents, and
/// one to look at tables with.
const CONNECTIONS_ASIDE: usize = 3;

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
        settings.check_connections(&mut reader);
        let fingerprint = reader.fingerprint();
        let (printed, problems) = reader.finish();
        if problems.is_empty() {
            Ok(Self { printed, fingerprint, ..settings })
        } else {
            Err(Problems(problems))
        }
    }

    /// Whether they say the same, secrets included. What a secret's file holds is read there by
    /// whoever needs it.
    pub fn say_the_same(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && format!("{self:?}") == format!("{other:?}")
    }

    /// Whose daemon it configures.
    pub fn owner(&self) -> Owner {
        Owner { service: self.service.clone(), environment: self.environment.clone() }
    }

    /// Where a stream is followed into.
    pub fn table_of(&self, stream: &StreamSettings) -> Table {
        let schema = self.group_of(stream).map_or(&self.target.schema, |group| &group.schema);
        Table { schema: schema.clone(), name: stream.table.clone() }
    }

    /// What a stream follows.
    pub fn namespace_of(&self, stream: &StreamSettings) -> Namespace {
        let database = self.database_of(stream).to_owned();
        Namespace { database, collection: stream.collection.clone() }
    }

    /// The database that a stream's group follows.
    pub fn database_of(&self, stream: &StreamSettings) -> &str {
        self.group_of(stream).map_or(&self.source.database, |group| &group.database)
    }

    /// The streams of a stream's group, itself included.
    pub fn group_streams(&self, stream: &StreamSettings) -> Vec<&StreamSettings> {
        self.streams.iter().filter(|other| other.group == stream.group).collect()
    }

    fn group_of(&self, stream: &StreamSettings) -> Option<&GroupSettings> {
        self.groups.iter().find(|group| group.name == stream.group)
    }

    /// The effective configuration as TOML, each value with its layer, secrets as `***`.
    pub fn print(&self) -> &str {
        &self.printed
    }

    fn read(r: &mut Reader) -> Self {
        let lease = LeaseSettings { duration: r.duration("lease.duration") };
        r.check("lease.duration", lease.duration >= Duration::from_secs(2), "must be at least 2s");
        let mut settings = Self {
            environment: r.word("environment"),
            service: r.word("service"),
            source: SourceSettings::read(r),
            target: TargetSettings::read(r),
            migrate: Migrate { automatic: r.boolean("migrate.automatic") },
            batch: Self::read_batch(r),
            checkpoint: Checkpoint { idle_interval: r.duration("checkpoint.idle_interval") },
            resync: Resync::read(r),
            compare: Compare {
                interval: r.optional_duration("compare.interval"),
                documents_per_second_max: r.integer("compare.documents_per_second_max"),
            },
            record: Record::read(r),
            row: RowLimits::read(r),
            mask_key: limits::read_mask_key(r),
            lease,
            retry: Self::read_retry(r),
            retention: Retention {
                dead_letter_resolved: r.optional_duration("retention.dead_letter_resolved"),
                incident: r.optional_duration("retention.incident"),
                checkpoint_history: r.optional_duration("retention.checkpoint_history"),
                command: r.optional_duration("retention.command"),
                history: r.optional_duration("retention.history"),
            },
            status: Status {
                listen: r.parsed("status.listen", "an address and port such as \"127.0.0.1:9464\""),
                token: Self::read_token(r),
                hosts: r.texts("status.hosts"),
            },
            alert: Alert::read(r),
            log: Log {
                format: r.one_of(
                    "log.format",
                    &[
                        ("auto", LogFormat::Auto),
                        ("pretty", LogFormat::Pretty),
                        ("json", LogFormat::Json),
                    ],
                ),
                filter: r.log_filter("log.filter"),
            },
            collector: Collector::read(r),
            streams: Vec::new(),
            groups: Vec::new(),
            printed: String::new(),
            fingerprint: 0,
        };
        settings.streams = stream::read(r, settings.mask_key.as_ref());
        settings.groups = group::read(r, &settings.source, &settings.target, &settings.streams);
        settings
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

    /// What the process shares to write its own tables by: what its groups' writers, the incidents
    /// and one that comes and goes leave of `target.connections_max`.
    pub fn connections_shared(&self) -> usize {
        let groups = self.groups.len();
        let left = self.target.connections_max.saturating_sub(groups + CONNECTIONS_ASIDE);
        left.clamp(1, groups.saturating_add(2).min(8))
    }

    /// How large a group's batch may be: what all groups may have together is shared evenly.
    pub fn batch_bytes_max(&self) -> usize {
        let share = self.batch.bytes_total_max / self.groups.len().max(1);
        self.batch.bytes_max.min(share.max(BATCH_BYTES_LEAST))
    }

    fn check_connections(&self, r: &mut Reader) {
        let groups = self.groups.len();
        let least = groups + CONNECTIONS_ASIDE + 1;
        let message = format!("must be at least {least}: one for each group ({groups}), and four");
        r.check("target.connections_max", self.target.connections_max >= least, &message);
    }

    fn read_batch(r: &mut Reader) -> BatchSettings {
        let batch = BatchSettings {
            events_max: r.count("batch.events_max", 1, 100_000),
            bytes_max: r.size("batch.bytes_max", BATCH_BYTES_LEAST, 256 << 20),
            linger: r.duration("batch.linger"),
            bytes_total_max: r.size("batch.bytes_total_max", BATCH_BYTES_LEAST, 16 << 30),
        };
        r.check(
            "batch.bytes_total_max",
            batch.bytes_total_max >= batch.bytes_max,
            "must not be less than batch.bytes_max",
        );
        batch
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
}

#[cfg(test)]
mod tests;
