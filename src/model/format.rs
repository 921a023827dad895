//! Numbers and lengths of time as people read them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// The end of what has none.
pub const FOREVER: DateTime<Utc> = match DateTime::from_timestamp(253_402_300_799, 0) {
    Some(year_9999) => year_9999,
    None => DateTime::<Utc>::MAX_UTC,
};

/// `2 d 4 h`, `3 h 20 min`, `12 min`, `40 s`.
pub fn length(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0);
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// The same of a number of seconds.
pub fn length_of(seconds: f64) -> String {
    let of = Duration::try_from_secs_f64(seconds.max(0.0)).ok();
    length(of.and_then(|of| TimeDelta::from_std(of).ok()).unwrap_or(TimeDelta::MAX))
}

/// Never 0 % of what is there, never 100 % of less than all.
pub fn percent(part: u64, whole: u64) -> String {
    match part * 100 / whole.max(1) {
        0 if part > 0 => "under 1 %".to_owned(),
        percent => format!("{percent} %"),
    }
}

/// `12,345,678`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 row`, `2 rows`.
pub fn many(number: u64, noun: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {noun}{end}", thousands(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_kind_is_told_as_one() {
        assert_eq!([0, 1, 2_000].map(|n| many(n, "row")), ["0 rows", "1 row", "2,000 rows"]);
    }

    #[test]
    fn lengths_and_numbers_read_well() {
        let said = [0, 59, 60, 3599, 3600, 86_399, 90_000]
            .map(|seconds| length(TimeDelta::seconds(seconds)));
        assert_eq!(said, ["0 s", "59 s", "1 min", "59 min", "1 h", "23 h 59 min", "1 d 1 h"]);
        assert_eq!([-1.0, 0.4, 250.0].map(length_of), ["0 s", "0 s", "4 min"], "a young oplog");
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
