//! Stopping one stream for a while, and letting it go on.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::resync::own_stream;
use super::slip::{Slip, Unable};
use crate::settings::Settings;
use crate::state::{StateTables, StreamRow};

/// What pausing a stream, or letting it go on, would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PausePreview {
    pub stream: String,
    pub group: String,
    pub phase: String,
    /// How it is paused now.
    pub paused: Option<String>,
    /// Until when it would be; `None` if it would go on.
    pub until: Option<DateTime<Utc>>,
    /// Its walk under way, which would end.
    pub walk: Option<i64>,
}

/// Looks at what pausing would do; changes nothing.
///
/// # Errors
/// There is no such stream, or it was never followed; or whatever Postgres answers.
pub async fn pause(
    settings: &Settings,
    state: &StateTables,
    name: &str,
    until: DateTime<Utc>,
) -> Result<PausePreview, Unable> {
    let (row, group) = row(settings, state, name).await?;
    let paused = row.pause_in_force();
    let walk = if paused.is_none() { state.open_walk(name).await? } else { None };
    Ok(PausePreview {
        stream: name.to_owned(),
        group,
        paused: paused.map(|pause| pause.to_string()),
        phase: row.phase,
        until: Some(until),
        walk: walk.map(|walk| walk.id),
    })
}

/// Looks at what letting a stream go on would do; changes nothing.
///
/// # Errors
/// There is no such stream, or it is not paused; or whatever Postgres answers.
pub async fn resume(
    settings: &Settings,
    state: &StateTables,
    name: &str,
) -> Result<PausePreview, Unable> {
    let (row, group) = row(settings, state, name).await?;
    let Some(pause) = row.pause_in_force() else {
        let message = format!("stream {name} is not paused: it is {}", row.phase);
        return Err(Slip::new(message, "`tidemark status` shows which are").into());
    };
    let (stream, phase, until, walk) = (name.to_owned(), row.phase, None, None);
    Ok(PausePreview { stream, group, phase, paused: Some(pause.to_string()), until, walk })
}

async fn row(
    settings: &Settings,
    state: &StateTables,
    name: &str,
) -> Result<(StreamRow, String), Unable> {
    let config = own_stream(settings, state, name).await?;
    let row = state.stream_row(name).await?;
    let never = || {
        let hint = "it begins to be followed when `tidemark run` leads it";
        Slip::new(format!("stream {name} was never followed"), hint)
    };
    Ok((row.ok_or_else(never)?, config.group.clone()))
}
