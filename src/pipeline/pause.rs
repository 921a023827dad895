//! Streams that a person told to stop for a while: what is asked for, and when it is over.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::state::{Command, Pause};

/// A stream is stopped for no longer: who means for ever takes it out of the configuration.
const PAUSE_MAX: TimeDelta = TimeDelta::days(7);

/// The clock of the database, which decides, may be behind this one's.
const LOOK_MIN: Duration = Duration::from_secs(1);

/// Waits until a pause is over.
pub async fn until_over(until: DateTime<Utc>) {
    let left = (until - Utc::now()).to_std().unwrap_or_default();
    tokio::time::sleep(left.max(LOOK_MIN)).await;
}

/// What a request to pause asks for. Pure.
///
/// # Errors
/// It cannot be meant, and why.
pub fn asked(command: &Command, now: DateTime<Utc>) -> Result<Pause, String> {
    let until = command.arguments.get("until").and_then(serde_json::Value::as_str);
    let until = until.and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let until = until.ok_or("the request names no time")?.to_utc();
    if until <= now {
        return Err("the time it names is over".to_owned());
    }
    // It was written down a while ago, perhaps under another clock.
    if until > command.at.max(now) + PAUSE_MAX + TimeDelta::hours(1) {
        return Err(format!("a stream is paused for {} days at most", PAUSE_MAX.num_days()));
    }
    Ok(Pause { until, by: command.actor.clone(), reason: command.reason.clone() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn command(arguments: serde_json::Value) -> Command {
        Command {
            id: 1,
            verb: "pause".to_owned(),
            stream: "doctor".to_owned(),
            arguments,
            actor: "me@here".to_owned(),
            db_user: None,
            db_address: None,
            reason: "index".to_owned(),
            at: DateTime::UNIX_EPOCH,
            done_at: None,
            outcome: None,
            result: None,
            attempts: 1,
        }
    }

    #[test]
    fn a_pause_has_an_end_within_a_week() {
        let now = DateTime::UNIX_EPOCH;
        let at = |until: &str| asked(&command(json!({ "until": until })), now);
        let pause = at("1970-01-01T02:00:00Z").unwrap();
        let said = "paused until 1970-01-01 02:00:00 UTC by me@here: index";
        assert_eq!((pause.until, pause.to_string().as_str()), (now + TimeDelta::hours(2), said));
        assert!(at("1970-01-08T00:30:00Z").is_ok(), "clocks differ");
        assert!(at("1970-01-08T01:00:01Z").unwrap_err().contains("7 days"));
        assert!(at("1970-01-01T00:00:00Z").unwrap_err().contains("over"));
        for arguments in [json!({}), json!({ "until": 7 }), json!({ "until": "noon" })] {
            assert!(asked(&command(arguments), now).unwrap_err().contains("no time"));
        }
    }
}
