//! Waits until a stream's table shows what the source had at a time.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::resync::own_stream;
use super::slip::{Slip, Unable};
use crate::model::position::ClusterTime;
use crate::settings::Settings;
use crate::source::Source;
use crate::state::StateTables;

const INTERVAL: Duration = Duration::from_millis(100);

/// How often the leader is asked to commit its position, until it has passed the time.
pub(super) const HURRY_INTERVAL: Duration = Duration::from_secs(1);

/// What was waited for, and what the table shows.
#[derive(Debug, Clone, Serialize)]
pub struct Waited {
    pub stream: String,
    /// Whether the table shows the time.
    pub shown: bool,
    /// `SECONDS.INCREMENT`, as the next.
    pub waited_for: String,
    pub position: Option<String>,
    /// Both as times, for people.
    #[serde(skip)]
    pub times: (ClusterTime, Option<ClusterTime>),
    /// Why it does not show it though the position may have passed it.
    pub because: Option<String>,
}

/// A cluster time: as a time (2026-11-22T18:00:00Z), as `SECONDS.INCREMENT`, or packed as in
/// `_cluster_time`.
///
/// # Errors
/// It is none of these.
pub fn time(text: &str) -> Result<ClusterTime, Slip> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        // All of that second. A cluster's clock ends in 2106.
        let Ok(seconds) = u32::try_from(at.timestamp().max(0)) else { return Err(none(text)) };
        return Ok(ClusterTime::new(u64::from(seconds) << 32 | u64::from(u32::MAX)));
    }
    let pair = text.split_once('.').and_then(|(seconds, increment)| {
        let (seconds, increment) = (seconds.parse::<u32>().ok()?, increment.parse::<u32>().ok()?);
        Some(ClusterTime::new(u64::from(seconds) << 32 | u64::from(increment)))
    });
    let packed =
        || text.parse::<i64>().ok().filter(|packed| *packed > 0).map(ClusterTime::from_sql);
    pair.or_else(packed).ok_or_else(|| none(text))
}

fn none(text: &str) -> Slip {
    let hint = "give --for a time such as 2026-11-22T10:14:50Z, SECONDS.INCREMENT, or a number as \
                in _cluster_time";
    Slip::new(format!("{text:?} is no time of a cluster"), hint)
}

/// Waits for as long as `patience` until the table shows `until`.
///
/// # Errors
/// There is no such stream; whatever Postgres answers.
pub async fn wait(
    settings: &Settings,
    state: &StateTables,
    name: &str,
    until: ClusterTime,
    patience: Duration,
) -> Result<Waited, Unable> {
    own_stream(settings, state, name).await?;
    let begun = Instant::now();
    let mut until = until;
    let mut asked = false;
    let mut hurried = None;
    loop {
        // Once the time has passed, what the source has by now is all it had at that time: of a
        // source that nobody writes to, no later position comes for a while.
        if !asked && until.at() <= Utc::now() {
            asked = true;
            if let Ok(source) = Source::new(settings).await
                && let Ok(now) = source.now().await
            {
                until = until.min(now);
            }
        }
        let row = state.stream_row(name).await?;
        // The group that has it, whatever a configuration says that no process follows yet.
        let group = row.as_ref().and_then(|row| row.group.as_deref());
        let stored = match group {
            Some(group) => state.load(group).await?,
            None => None,
        };
        let position = stored.and_then(|stored| stored.time());
        let because = match &row {
            None => Some("the stream was never followed".to_owned()),
            Some(row) if let Some(why) = row.left_out() => Some(format!("it is {why}")),
            Some(row) if row.left_at.is_some() || row.group.is_none() => {
                Some("it is not followed".to_owned())
            }
            Some(_) => state
                .open_walk(name)
                .await?
                .map(|walk| format!("its collection is walked ({} {})", walk.reason, walk.id)),
        };
        let shown = because.is_none() && position.is_some_and(|position| position >= until);
        if shown || begun.elapsed() >= patience {
            return Ok(Waited {
                stream: name.to_owned(),
                shown,
                waited_for: until.to_string(),
                times: (until, position),
                position: position.map(|position| position.to_string()),
                because,
            });
        }
        if hurried.is_none_or(|at: Instant| at.elapsed() > HURRY_INTERVAL)
            && let Some(group) = group
        {
            hurried = Some(Instant::now());
            // Who may not ask waits for the next position that is due.
            let _ = state.hurry(group).await;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_people_and_tables_write_it() {
        let at = |text: &str| time(text).map(|time| (time.seconds(), time.increment())).ok();
        assert_eq!(at("2026-11-22T10:14:50Z"), Some((1_795_342_490, u32::MAX)));
        assert_eq!(at("1795342490.7"), Some((1_795_342_490, 7)));
        let packed = (1_795_342_490_i64 << 32 | 7).to_string();
        assert_eq!(at(&packed), Some((1_795_342_490, 7)));
        assert_eq!(at("2127-01-01T00:00:00Z"), None, "no cluster has come so far");
        assert_eq!((at("yesterday"), at("-1"), at("")), (None, None, None));
    }
}
