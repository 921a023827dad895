//! Until when something holds, as people say it: a time to come, or a length from now.

use chrono::{DateTime, TimeDelta, Utc};

/// For how long a stream may be paused, or incidents muted, in days.
const DAYS_MAX: i64 = 7;

/// When something ends that may last so many days. Pure.
///
/// # Errors
/// It is no such time, or too far away.
pub fn within_days(text: &str, now: DateTime<Utc>, days: i64) -> Result<DateTime<Utc>, String> {
    let at = match DateTime::parse_from_rfc3339(text) {
        Ok(at) => Some(at.to_utc()),
        Err(_) => humantime::parse_duration(text)
            .ok()
            .and_then(|length| now.checked_add_signed(TimeDelta::from_std(length).ok()?)),
    };
    let to_come = at
        .filter(|at| *at > now)
        .ok_or("it is no time to come (2026-11-22T18:00:00Z) and no length (4h)")?;
    if to_come <= now + TimeDelta::days(days) {
        Ok(to_come)
    } else {
        Err(format!("it is more than {days} days away: name a nearer time"))
    }
}

/// When something ends that may last a week.
///
/// # Errors
/// It is no such time, or too far away.
pub fn within_a_week(text: &str) -> Result<DateTime<Utc>, String> {
    within_days(text, Utc::now(), DAYS_MAX)
}
