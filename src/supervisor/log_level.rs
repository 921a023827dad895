//! Another filter of the log for a while, as a person asked of every process of the service. What
//! is asked is recorded, so one that starts meanwhile logs by it, too.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::settings::Settings;
use crate::state::{Command, Outcome, StateTables, Verb};
use crate::telemetry;

/// How often the table of requests is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// A request that is older is not answered again by a process that starts.
const ANSWERED_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// What is asked for: a filter, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LogLevel {
    filter: String,
    until: DateTime<Utc>,
}

impl LogLevel {
    /// `None` of a request that does not say it.
    fn of(command: &Command) -> Option<Self> {
        let word = |name| command.arguments.get(name).and_then(serde_json::Value::as_str);
        let until = DateTime::parse_from_rfc3339(word("until")?).ok()?.to_utc();
        Some(Self { filter: word("filter")?.to_owned(), until })
    }
}

/// Follows what is asked until aborted; what is configured holds where nothing is asked.
pub async fn follow(state: StateTables, settings: std::sync::Arc<Settings>, holder: String) {
    let mut seen: Option<i64> = None;
    let mut in_force: Option<LogLevel> = None;
    loop {
        match state.newest_request(Verb::LogLevel).await {
            Ok(Some(command)) if seen != Some(command.id) => {
                seen = Some(command.id);
                take(&state, &command, &holder, &mut in_force).await;
            }
            Ok(_) => {}
            Err(fault) => tracing::debug!("requests for the log not looked for: {fault}"),
        }
        if in_force.as_ref().is_some_and(|level| level.until <= Utc::now()) {
            in_force = None;
            match telemetry::refilter(&settings) {
                Ok(()) => tracing::info!("the log is filtered as configured again"),
                Err(why) => tracing::warn!("the log goes on as it was: {why}"),
            }
        }
        let left = in_force.as_ref().map(|level| level.until - Utc::now());
        let left = left.and_then(|left| left.to_std().ok()).unwrap_or(INTERVAL);
        tokio::time::sleep(left.min(INTERVAL)).await;
    }
}

/// Filters as the request says, and answers it for this process.
async fn take(
    state: &StateTables,
    command: &Command,
    holder: &str,
    in_force: &mut Option<LogLevel>,
) {
    let now = Utc::now();
    let (outcome, said) = match LogLevel::of(command) {
        None => (Outcome::Refused, "it names no filter, or no time".to_owned()),
        Some(level) if level.until <= now => (Outcome::Refused, "its time is over".to_owned()),
        Some(level) => {
            // Before the filter may let no such line through any more.
            let (filter, until) = (&level.filter, level.until.format("%Y-%m-%d %H:%M:%S UTC"));
            let actor = command.asked_by();
            tracing::warn!(filter, actor, "the log is filtered otherwise until {until}");
            match telemetry::filter_by(filter) {
                Ok(()) => {
                    let said = format!("{filter} until {until}");
                    *in_force = Some(level);
                    (Outcome::Done, said)
                }
                Err(why) => (Outcome::Refused, why),
            }
        }
    };
    if command.done_at.is_some() && now - command.at > ANSWERED_WITHIN {
        return;
    }
    let said = match outcome {
        Outcome::Done => format!("{holder}: {said}"),
        _ => format!("{holder}: refused: {said}"),
    };
    if let Err(fault) = state.answer_all(Verb::LogLevel, command.id, outcome, &said).await {
        tracing::warn!(command = command.id, "request not answered: {fault}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_says_a_filter_and_a_time_or_nothing() {
        let of = |arguments| {
            LogLevel::of(&Command {
                id: 1,
                verb: Verb::LogLevel.name().to_owned(),
                stream: String::new(),
                arguments,
                actor: "me".to_owned(),
                db_user: None,
                db_address: None,
                reason: String::new(),
                at: DateTime::UNIX_EPOCH,
                done_at: None,
                outcome: None,
                result: None,
                attempts: 0,
            })
        };
        let level = of(json!({ "filter": "debug", "until": "1970-01-01T01:00:00Z" })).unwrap();
        assert_eq!(level.until, DateTime::UNIX_EPOCH + TimeDelta::hours(1));
        assert_eq!(level.filter, "debug");
        for arguments in [
            json!({}),
            json!({ "filter": "debug" }),
            json!({ "filter": 7, "until": "1970-01-01T01:00:00Z" }),
            json!({ "filter": "debug", "until": "noon" }),
        ] {
            assert_eq!(of(arguments), None);
        }
    }
}
