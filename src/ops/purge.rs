//! What is over is forgotten by its age: as `[retention]` says, and when a person asks.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;

use crate::alert;
use crate::error::Fault;
use crate::settings::{Retention, Retry};
use crate::state::{Command, Outcome, Over, STEP_ROWS, StateTables, Verb};

/// Between two steps: others have their turn.
const PAUSE: Duration = Duration::from_millis(100);

/// Tries of one request.
const TRIES_MAX: i32 = 10;

/// The keys of `[retention]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Letters,
    /// Incidents, and what was repaired.
    Incidents,
    Positions,
    Commands,
}

/// Each table with the key that says how long its rows are kept, in an order in which no row is
/// held by one of a later table.
const TABLES: [(Over, Kept); 6] = [
    (Over::DEAD_LETTER, Kept::Letters),
    (alert::RESOLVED, Kept::Incidents),
    (Over::GAP_REPORT, Kept::Incidents),
    (Over::RESYNC, Kept::Incidents),
    (Over::CHECKPOINT_HISTORY, Kept::Positions),
    (Over::COMMAND, Kept::Commands),
];

/// Rows of one table that are over, or were forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    pub table: &'static str,
    pub rows: u64,
}

/// What a purge would forget.
pub async fn preview(state: &StateTables, before: DateTime<Utc>) -> Result<Vec<Forgotten>, Fault> {
    let mut found = Vec::new();
    for (over, _) in TABLES {
        let rows = state.count_over(over, before).await?;
        found.push(Forgotten { table: over.table(), rows });
    }
    Ok(found)
}

/// A request's arguments.
pub fn arguments(before: DateTime<Utc>) -> serde_json::Value {
    json!({ "before": before })
}

/// Carries out what people asked for, and says so in the request. `false` if there was nothing.
///
/// # Errors
/// A request cannot be taken, or it cannot be said what became of it.
pub async fn obey(state: &StateTables, retry: Retry) -> Result<bool, Fault> {
    let Some(command) = state.take_purge(retry.delay_max).await? else { return Ok(false) };
    let Some(before) = before_of(&command) else {
        state.end_purge(command.id, Outcome::Refused, "refused: the request names no time").await?;
        return Ok(true);
    };
    match purge(state, |_| Some(before)).await {
        Ok(forgotten) => {
            let result = said(&forgotten);
            tracing::info!(
                command = command.id,
                verb = Verb::Purge.name(),
                result,
                "request ended"
            );
            state.end_purge(command.id, Outcome::Done, &result).await?;
        }
        Err(fault) if fault.class.may_retry() && command.attempts < TRIES_MAX => {
            let why = format!("failed after {} of {TRIES_MAX} tries: {fault}", command.attempts);
            state.put_off_command(command.id, retry.delay_max, &why).await?;
        }
        Err(fault) => {
            state.end_purge(command.id, Outcome::Failed, &fault.to_string()).await?;
        }
    }
    Ok(true)
}

fn before_of(command: &Command) -> Option<DateTime<Utc>> {
    let text = command.arguments.get("before")?.as_str()?;
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

/// Forgets what is older than is to be kept.
///
/// # Errors
/// Whatever Postgres answers; what was forgotten by then stays so.
pub async fn expire(state: &StateTables, retention: Retention) -> Result<Vec<Forgotten>, Fault> {
    let now = Utc::now();
    purge(state, |kept| {
        let length = match kept {
            Kept::Letters => retention.dead_letter_resolved,
            Kept::Incidents => retention.incident,
            Kept::Positions => retention.checkpoint_history,
            Kept::Commands => retention.command,
        };
        now.checked_sub_signed(TimeDelta::from_std(length?).ok()?)
    })
    .await
}

/// Step by step. `before` says of each key of `[retention]` what is old; `None`: nothing.
async fn purge(
    state: &StateTables,
    before: impl Fn(Kept) -> Option<DateTime<Utc>> + Send,
) -> Result<Vec<Forgotten>, Fault> {
    let mut forgotten = Vec::new();
    for (over, kept) in TABLES {
        let Some(before) = before(kept) else { continue };
        let mut rows = 0;
        loop {
            let step = state.forget(over, before).await?;
            rows += step;
            if step < STEP_ROWS {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        forgotten.push(Forgotten { table: over.table(), rows });
        if kept == Kept::Incidents {
            state.forget_samples(before).await?;
        }
    }
    Ok(forgotten)
}

/// `2,500 rows of dead_letter, 1 of incident`; the tables with nothing to forget are left out.
pub fn said(forgotten: &[Forgotten]) -> String {
    let some: Vec<String> = forgotten
        .iter()
        .filter(|of| of.rows > 0)
        .map(|of| format!("{} of {}", of.rows, of.table))
        .collect();
    if some.is_empty() {
        "nothing was old enough".to_owned()
    } else {
        format!("forgotten: {}", some.join(", "))
    }
}

/// Since before when what is forgotten has been over: a time gone by, or a length of time before
/// now.
///
/// # Errors
/// It is neither.
pub fn before(text: &str) -> Result<DateTime<Utc>, &'static str> {
    let now = Utc::now();
    let at = match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Some(at.to_utc()),
        Err(_) => humantime::parse_duration(text)
            .ok()
            .and_then(|length| now.checked_sub_signed(TimeDelta::from_std(length).ok()?)),
    };
    at.filter(|at| *at <= now)
        .ok_or("it is no time gone by (2026-11-22T18:00:00Z) and no length (90d)")
}
