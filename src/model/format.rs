//! Numbers and lengths of time as people read them.

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
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_numbers_read_well() {
        let said = [0, 59, 60, 3599, 3600, 86_399, 90_000]
            .map(|seconds| length(TimeDelta::seconds(seconds)));
        assert_eq!(said, ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "23 h 59 min", "1 d 1 h"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
