//! A time of the week, in UTC.

use chrono::{DateTime, Datelike, Days, NaiveTime, Utc, Weekday};

/// `Mon 09:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    day: Weekday,
    at: NaiveTime,
}

impl Schedule {
    /// `None` of a text that is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (day, at) = text.trim().split_once(' ')?;
        let at = NaiveTime::parse_from_str(at.trim(), "%H:%M").ok()?;
        Some(Self { day: day.parse().ok()?, at })
    }

    /// The last time it came, now included.
    pub fn last(self, now: DateTime<Utc>) -> DateTime<Utc> {
        let back = now.weekday().days_since(self.day);
        let date = now.date_naive();
        let day = date.checked_sub_days(Days::new(back.into())).unwrap_or(date);
        let last = day.and_time(self.at).and_utc();
        if last <= now { last } else { last - chrono::TimeDelta::days(7) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_week_comes_once_a_week() {
        let schedule = Schedule::parse("Mon 09:00").unwrap();
        assert_eq!(Schedule::parse("monday 09:00"), Some(schedule));
        let last = |now: &str| schedule.last(now.parse().unwrap()).to_string();
        // 2026-11-23 is a Monday.
        assert_eq!(last("2026-11-23T09:00:00Z"), "2026-11-23 09:00:00 UTC");
        assert_eq!(last("2026-11-23T08:59:59Z"), "2026-11-16 09:00:00 UTC");
        assert_eq!(last("2026-11-29T23:00:00Z"), "2026-11-23 09:00:00 UTC");
        for none in ["", "Mon", "09:00", "Mon 9", "Mon 25:00", "Moon 09:00", "Mon 09:00 UTC"] {
            assert_eq!(Schedule::parse(none), None, "{none}");
        }
    }
}
