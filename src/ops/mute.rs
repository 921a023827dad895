//! Muting incidents: they are recorded and shown, and told only if they are still open at the end.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use super::command::actor;
use super::resync::own_stream;
use super::slip::{Slip, Unable};
use crate::alert::{EVERY_CODE, Mute, Mutes, Store};
use crate::error::{Code, Fault};
use crate::settings::Settings;
use crate::state::{Command, StateTables, Verb};
use crate::status::MuteReport;

/// What is muted, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MutePreview {
    pub code: String,
    pub stream: Option<String>,
    /// `None`: it would be told again.
    pub until: Option<DateTime<Utc>>,
    /// What holds of it now, and would end or be replaced.
    pub now: Option<MuteReport>,
    /// Open incidents that it is of.
    pub open: Vec<i64>,
}

/// A code of an incident, or the word for all of them.
///
/// # Errors
/// There is no such code.
pub fn code(text: &str) -> Result<String, String> {
    if text == EVERY_CODE || Code::parse(text).is_some() {
        return Ok(text.to_owned());
    }
    let near = Code::ALL.iter().min_by_key(|code| strsim::damerau_levenshtein(text, code.name()));
    let near = near.map_or("", |code| code.name());
    Err(format!(
        "is no incident's code; did you mean {near}? docs/runbook.md lists them, or {EVERY_CODE}"
    ))
}

/// What muting would do; changes nothing.
///
/// # Errors
/// There is no such stream; or whatever Postgres answers.
pub async fn preview(
    settings: &Settings,
    state: &StateTables,
    store: &Store,
    (code, stream): (&str, Option<&str>),
    until: Option<DateTime<Utc>>,
) -> Result<MutePreview, Unable> {
    if let Some(name) = stream.filter(|name| !settings.groups.iter().any(|g| g.name == **name)) {
        own_stream(settings, state, name).await?;
    }
    let now = Utc::now();
    let said = state.mutes_said().await?;
    let held = said.iter().filter_map(Mute::of).find(|mute| is_of(mute, code, stream, now));
    if held.is_none() && until.is_none() {
        let of = stream.map_or_else(String::new, |stream| format!(" of {stream}"));
        let message = format!("{code}{of} is not muted by a person");
        return Err(Slip::new(message, "`tidemark incident list` shows what is").into());
    }
    let wanted = Mute {
        code: Code::parse(code),
        stream: stream.map(str::to_owned),
        until: until.unwrap_or(now),
        by: String::new(),
        reason: String::new(),
    };
    let open = store.latest(1_000).await?.into_iter();
    let open = open.filter(|incident| !incident.is_resolved() && wanted.covers(&incident.key));
    Ok(MutePreview {
        code: code.to_owned(),
        stream: stream.map(str::to_owned),
        until,
        now: held.map(|mute| mute.report()),
        open: open.filter_map(|incident| incident.id).collect(),
    })
}

fn is_of(mute: &Mute, code: &str, stream: Option<&str>, now: DateTime<Utc>) -> bool {
    mute.code == Code::parse(code) && mute.stream.as_deref() == stream && mute.until > now
}

/// Mutes, or tells again; at once, and recorded.
pub async fn execute(
    state: &StateTables,
    preview: &MutePreview,
    by: &str,
    reason: &str,
) -> Result<Command, Fault> {
    let MutePreview { code, stream, until, .. } = preview;
    let (verb, result) = match until {
        Some(until) => {
            let until = until.format("%Y-%m-%d %H:%M:%S UTC");
            (Verb::IncidentMute, format!("{code} is not told until {until}"))
        }
        None => (Verb::IncidentUnmute, format!("{code} is told again")),
    };
    let arguments = json!({ "code": code, "stream": stream, "until": until, "by": by });
    state.record_done(verb, &arguments, &actor(), reason, &result).await
}

/// What keeps incidents from being told, as people said and as it is configured here.
pub async fn mutes(settings: &Settings, state: &StateTables) -> Result<Mutes, Fault> {
    Ok(Mutes::new(&settings.alert.maintenance, &state.mutes_said().await?))
}
