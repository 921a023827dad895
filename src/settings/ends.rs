//! The two ends: where they are, how they are reached, and what is demanded of the way there.

use std::time::Duration;

use super::secret::Secret;
use super::values::Reader;

#[derive(Debug, Clone)]
pub struct SourceSettings {
    pub uri: Secret,
    pub database: String,
    pub history_retention: Option<Duration>,
    /// Whether a host that is not loopback may be spoken to without verified TLS.
    pub insecure: bool,
    /// Its output is the password, asked anew for each login; none if empty.
    pub password_command: String,
    /// Where the heartbeat document is written; none unless configured.
    pub heartbeat_collection: Option<String>,
    pub heartbeat_interval: Duration,
}

#[derive(Debug, Clone)]
pub struct TargetSettings {
    pub url: Secret,
    pub schema: String,
    pub state_schema: String,
    /// Of the process, all groups together.
    pub connections_max: usize,
    /// Whether a host that is not loopback may be spoken to without verified TLS.
    pub insecure: bool,
    /// Its output is the password, asked anew for each login; none if empty.
    pub password_command: String,
}

impl SourceSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        let uri = r.secret("source.uri");
        r.check_scheme("source.uri", &uri, &["mongodb", "mongodb+srv"]);
        Self {
            uri,
            database: r.word("source.database"),
            history_retention: r.optional_duration("source.history_retention"),
            insecure: r.boolean("source.insecure"),
            password_command: r.text("source.password_command"),
            heartbeat_collection: Some(r.text("source.heartbeat_collection"))
                .filter(|name| !name.is_empty()),
            heartbeat_interval: r.duration("source.heartbeat_interval"),
        }
    }
}

impl TargetSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        let url = r.secret("target.url");
        r.check_scheme("target.url", &url, &["postgres", "postgresql"]);
        Self {
            url,
            schema: r.identifier("target.schema"),
            state_schema: r.identifier("target.state_schema"),
            connections_max: r.count("target.connections_max", 1, 10_000),
            insecure: r.boolean("target.insecure"),
            password_command: r.text("target.password_command"),
        }
    }
}
