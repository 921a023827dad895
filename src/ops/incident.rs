//! Incidents for people: what is open, what was, and taking one on.

use chrono::{DateTime, Utc};

use super::request::actor;
use crate::alert::{Ack, Store, report};
use crate::error::{Class, Code, Fault};
use crate::status::IncidentReport;

/// How many a list shows.
const LISTED: i64 = 50;

/// Open incidents first, then the latest of the past.
///
/// # Errors
/// Postgres cannot be asked, or has no tables of tidemark.
pub async fn list(store: &Store) -> Result<Vec<IncidentReport>, Fault> {
    let now = Utc::now();
    Ok(store.latest(LISTED).await?.iter().map(|incident| report(incident, now)).collect())
}

/// One incident, whole.
///
/// # Errors
/// There is none of that number, or Postgres cannot be asked.
pub async fn show(store: &Store, id: i64) -> Result<serde_json::Value, Fault> {
    let now = Utc::now();
    let incident = store.find(id).await?.ok_or_else(|| missing(id))?;
    let mut shown = serde_json::to_value(report(&incident, now)).unwrap_or_default();
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("tag".to_owned(), incident.tag.to_string().into());
        fields.insert("detail".to_owned(), serde_json::to_value(&incident.detail).unwrap_or_default());
    }
    Ok(shown)
}

/// Takes an incident on: no reminders until the time is over.
///
/// # Errors
/// There is no such open incident, the time is over already, or Postgres cannot be asked.
pub async fn acknowledge(store: &Store, id: i64, by: &str, until: &str) -> Result<Ack, Fault> {
    let now = Utc::now();
    let until = time(until, now).filter(|until| *until > now).ok_or_else(|| {
        let hint = "write --until as a time to come (2026-11-22T18:00:00Z) or as a length (4h)";
        Fault::new(Class::Halt, Code::Stalled, format!("{until:?} is not a time to come"), hint)
    })?;
    let ack = Ack { by: by.to_owned(), until };
    if store.acknowledge(id, &ack, &actor()).await? { Ok(ack) } else { Err(missing(id)) }
}

fn missing(id: i64) -> Fault {
    let hint = "`tidemark incident list` shows them";
    Fault::new(Class::Halt, Code::Stalled, format!("there is no such incident, or it is over: {id}"), hint)
}

/// A time, or a length from now.
fn time(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(at.to_utc());
    }
    let length = humantime::parse_duration(text).ok()?;
    now.checked_add_signed(chrono::TimeDelta::from_std(length).ok()?)
}
