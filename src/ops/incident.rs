//! Incidents for people: what is open, what was, and taking one on.

use chrono::{DateTime, Utc};

use super::command::actor;
use super::deadline::within_days;
use super::slip::{Slip, Unable};
use crate::alert::{Ack, Mutes, Store, report};
use crate::error::Fault;
use crate::model::format::FOREVER;
use crate::status::IncidentReport;

/// How many a list shows.
const LISTED: i64 = 50;

/// Open incidents first, then the latest of the past.
///
/// # Errors
/// Postgres cannot be asked, or has no tables of tidemark.
pub async fn list(store: &Store, mutes: &Mutes) -> Result<Vec<IncidentReport>, Fault> {
    let now = Utc::now();
    let latest = store.latest(LISTED).await?;
    Ok(latest.iter().map(|incident| report(incident, mutes, now)).collect())
}

/// One incident, whole.
///
/// # Errors
/// There is none of that number, or Postgres cannot be asked.
pub async fn show(store: &Store, mutes: &Mutes, id: i64) -> Result<serde_json::Value, Unable> {
    let now = Utc::now();
    let incident = store.find(id).await?.ok_or_else(|| missing(id))?;
    let mut shown = serde_json::to_value(report(&incident, mutes, now)).unwrap_or_default();
    if let Some(fields) = shown.as_object_mut() {
        if let Some((user, address)) = store.acked_as(id).await? {
            fields.insert("acked_user".to_owned(), user.into());
            fields.insert("acked_address".to_owned(), address.into());
        }
        fields.insert("tag".to_owned(), incident.tag.to_string().into());
        fields.insert(
            "detail".to_owned(),
            serde_json::to_value(&incident.detail).unwrap_or_default(),
        );
    }
    Ok(shown)
}

/// Takes an incident on: no reminders until the time is over; until it is resolved, where there is
/// none.
///
/// # Errors
/// There is no such open incident, or Postgres cannot be asked.
pub async fn acknowledge(
    store: &Store,
    id: i64,
    by: &str,
    until: Option<DateTime<Utc>>,
) -> Result<Ack, Unable> {
    let ack = Ack { by: by.to_owned(), until: until.unwrap_or(FOREVER) };
    if store.acknowledge(id, &ack, &actor()).await? { Ok(ack) } else { Err(missing(id).into()) }
}

fn missing(id: i64) -> Slip {
    let hint = "`tidemark incident list` shows them";
    Slip::new(format!("there is no such incident, or it is over: {id}"), hint)
}

/// Whoever is on it is asked again after this time at the latest.
const ACK_DAYS_MAX: i64 = 7;

/// When an acknowledgement ends: a time to come, or a length from now.
///
/// # Errors
/// It is neither, or too far away.
pub fn until(text: &str) -> Result<DateTime<Utc>, String> {
    ends(text, Utc::now())
}

fn ends(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    within_days(text, now, ACK_DAYS_MAX).map_err(|wrong| {
        let way_on = if wrong.contains("days away") { ", or give --forever" } else { "" };
        format!("{wrong}{way_on}")
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn an_acknowledgement_ends_within_a_week() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(ends("4h", now), Ok(now + TimeDelta::hours(4)));
        assert_eq!(ends("7days", now), Ok(now + TimeDelta::days(7)));
        assert_eq!(ends("1970-01-02T00:00:00+01:00", now), Ok(now + TimeDelta::hours(23)));
        for text in ["8days", "1970-01-09T00:00:00Z", "9999-01-01T00:00:00Z"] {
            assert!(ends(text, now).unwrap_err().contains("--forever"), "{text}");
        }
        for text in ["", "0s", "tomorrow", "1969-01-01T00:00:00Z", "-4h"] {
            assert!(ends(text, now).unwrap_err().contains("no time to come"), "{text}");
        }
    }
}
