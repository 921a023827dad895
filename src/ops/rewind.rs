//! The stored position moved back: to a retired one, to a time, to a token; and where that is
//! refused.

use chrono::DateTime;
use serde::Serialize;

use super::checkpoint::none;
use super::resync::own_stream;
use super::slip::{Slip, Unable};
use crate::model::position::{ClusterTime, Position, ResumeToken, brief, hex, resumes_under};
use crate::settings::Settings;
use crate::source::{ChangeStreamOptions, Source};
use crate::state::{StateTables, Stored, StreamRow};

/// Where a rewind would go.
#[derive(Debug, Clone, Serialize)]
pub struct Rewind {
    pub stream: String,
    /// What `--to` was taken for.
    pub meant: String,
    /// As it is shown.
    pub token: String,
    pub cluster_time: String,
    /// How far back that is from the present position.
    pub back_seconds: f64,
    /// For the daemon: the token as BSON in hex, and the packed time.
    #[serde(skip)]
    pub arguments: serde_json::Value,
}

/// Finds the position meant by `to`: the id of a retired one, a token in hex, or a time.
///
/// # Errors
/// It is none of these, or cannot be reached; whatever either end answers.
pub async fn rewind(
    settings: &Settings,
    state: &StateTables,
    name: &str,
    to: &str,
) -> Result<Rewind, Unable> {
    let config = own_stream(settings, state, name).await?;
    let stored = state.load(&config.group).await?.ok_or_else(|| none(name))?;
    let database = settings.database_of(config);
    let options = ChangeStreamOptions::of(&settings.group_streams(config), settings);
    let (meant, position) = if to.len() < 16
        && let Ok(id) = to.parse::<i64>()
    {
        (format!("retired position {id}"), {
            let group = (config.group.as_str(), name);
            archived(state, group, (database, &options.fingerprint()), id).await?
        })
    } else if let Ok(at) = DateTime::parse_from_rfc3339(to) {
        let source = Source::new(settings).await?.of_database(database);
        (format!("time {to}"), source.position_at(&options, at.timestamp()).await?)
    } else {
        ("token".to_owned(), of_token(to)?)
    };
    let back = refuse_forward(&stored, &position)?;
    Ok(Rewind {
        stream: name.to_owned(),
        meant,
        token: brief(&position.token.text()),
        cluster_time: position.cluster_time.at().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        back_seconds: back,
        arguments: serde_json::json!({
            "resume_token": hex(position.token.bytes()),
            "cluster_time": position.cluster_time.to_sql(),
        }),
    })
}

/// A retired position of the database and the options that are followed now: under others it may
/// be refused, or taken for what it is not.
async fn archived(
    state: &StateTables,
    (group, name): (&str, &str),
    (database, options): (&str, &str),
    id: i64,
) -> Result<Position, Unable> {
    let hint = "`tidemark checkpoint history` lists them with their ids";
    let refused = |why: String| Unable::from(Slip::new(why, hint));
    let of_database = |source: &str| source.split('.').next() == Some(database);
    let retired = state.retired(group, name).await?;
    let found = retired.into_iter().find(|old| old.id == id && of_database(&old.source));
    if let Some(retired) = &found {
        if !resumes_under(&retired.options, options) {
            return Err(refused(format!(
                "retired position {id} was made under other options ({})",
                retired.options
            )));
        }
        let row = state.stream_row(name).await?;
        let bound = row.as_ref().and_then(StreamRow::binding);
        let bound = bound.map_or((None, None), |bound| (bound.cluster, bound.collection_uuid));
        if bound.0.zip(retired.cluster.clone()).is_some_and(|(now, then)| now != then) {
            return Err(refused(format!("retired position {id} was made on another cluster")));
        }
        if bound.1.zip(retired.collection_uuid).is_some_and(|(now, then)| now != then) {
            return Err(refused(format!(
                "retired position {id} was made on another collection of that name"
            )));
        }
    }
    let position = found.and_then(|retired| {
        let token = ResumeToken::new(retired.resume_token.as_deref()?).ok()?;
        Some(Position { token, cluster_time: retired.at()? })
    });
    position.ok_or_else(|| refused(format!("stream {name} has no usable retired position {id}")))
}

fn of_token(text: &str) -> Result<Position, Slip> {
    let bad = |message: String| {
        let hint = "give --to the id of a retired position, a time such as 2026-11-22T10:14:50Z, \
                    or a resume token in hex";
        Slip::new(message, hint)
    };
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(bad("--to is no id, no time and no token".to_owned()));
    }
    let token = ResumeToken::of_text(text);
    let time =
        token.cluster_time().ok_or_else(|| bad("the token does not tell its time".to_owned()))?;
    Ok(Position { token, cluster_time: time })
}

/// Seconds back; an error for a position further on, which would skip what lies between.
fn refuse_forward(stored: &Stored, position: &Position) -> Result<f64, Slip> {
    let present = stored.cluster_time.map_or(position.cluster_time, ClusterTime::from_sql);
    if stored.is_behind(position) {
        let message =
            "that position is further on than the present one: what lies between would be skipped";
        let hint = "to go on from now, ask for a resync, which repairs the table, too: `tidemark \
                    resync STREAM --reason TEXT`";
        return Err(Slip::new(message, hint));
    }
    Ok(present.seconds_since(position.cluster_time))
}
