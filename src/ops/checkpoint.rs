//! The stored position, shown.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::resync::own_stream;
use super::slip::{Slip, Unable};
use crate::model::position::ClusterTime;
use crate::settings::Settings;
use crate::source::ChangeStreamOptions;
use crate::state::{Start, StateTables};

/// A stream's checkpoint, decoded.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    pub stream: String,
    /// The position is the group's, and so one for all of its streams.
    pub group: String,
    pub source: String,
    pub options: String,
    pub token: Option<String>,
    pub cluster_time: Option<String>,
    pub increment: Option<u32>,
    /// Whether it can be used, or why not.
    pub usable: String,
    pub epoch: i64,
    pub revision: i64,
    pub phase: String,
    pub halt_code: Option<String>,
    pub updated_at: DateTime<Utc>,
}

pub(super) fn none(name: &str) -> Slip {
    let message = format!("no checkpoint is stored for stream {name}");
    Slip::new(message, "`tidemark run` makes one when it first leads the stream")
}

/// # Errors
/// There is no such stream or no row of it; whatever Postgres answers.
pub async fn show(settings: &Settings, state: &StateTables, name: &str) -> Result<Shown, Unable> {
    let config = own_stream(settings, state, name).await?;
    let stored = state.load(&config.group).await?.ok_or_else(|| none(name))?;
    let row = state.stream_row(name).await?;
    let options = ChangeStreamOptions::of(&settings.group_streams(config), settings);
    let usable = match stored.start(settings.database_of(config), &options.fingerprint()) {
        Start::Resume(_) => "yes, if the source still has its history".to_owned(),
        Start::New => "no: none was stored yet".to_owned(),
        Start::Lost(_, why) => format!("no: {why}"),
        Start::Refused(version) => format!("no: written by a newer release (format {version})"),
    };
    let at = stored.cluster_time.map(ClusterTime::from_sql);
    Ok(Shown {
        stream: name.to_owned(),
        group: stored.group,
        source: settings.namespace_of(config).to_string(),
        options: stored.options,
        token: stored.token,
        cluster_time: at.map(|at| at.at().format("%Y-%m-%dT%H:%M:%SZ").to_string()),
        increment: at.map(ClusterTime::increment),
        usable,
        epoch: stored.epoch,
        revision: stored.revision,
        phase: row.as_ref().map(|row| row.phase.clone()).unwrap_or_default(),
        halt_code: stored.halt_code.or_else(|| row.and_then(|row| row.parked_code)),
        updated_at: stored.updated_at,
    })
}
