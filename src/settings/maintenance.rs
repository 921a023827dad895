//! `[[alert.maintenance]]`: windows in which incidents are recorded and shown, and told only if
//! they are still open at the end. All times are UTC.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, Utc, Weekday};

use super::entry::Entry;
use super::values::Reader;
use crate::error::Code;

const LIST: &str = "alert.maintenance";
const KEYS: [&str; 5] = ["name", "days", "from", "until", "codes"];

/// A window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    pub name: String,
    pub when: Window,
    /// Of incidents with these codes; of all, if empty.
    pub codes: Vec<Code>,
}

/// When it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Window {
    Once {
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    },
    /// On these days, or each if there is none. One that ends no later than it begins ends on the
    /// day after.
    Weekly {
        days: Vec<Weekday>,
        from: NaiveTime,
        until: NaiveTime,
    },
}

impl Maintenance {
    /// When it ends, if it holds.
    pub fn holds_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.when.holds_until(now)
    }
}

impl Window {
    /// It never ends: each day of the week ends where the next one begins.
    pub fn is_endless(&self) -> bool {
        match self {
            Self::Once { .. } => false,
            Self::Weekly { days, from, until } => {
                let all = [
                    Weekday::Mon,
                    Weekday::Tue,
                    Weekday::Wed,
                    Weekday::Thu,
                    Weekday::Fri,
                    Weekday::Sat,
                    Weekday::Sun,
                ];
                from == until && (days.is_empty() || all.iter().all(|day| days.contains(day)))
            }
        }
    }

    fn holds_until(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Once { from, until } => (*from <= now && now < *until).then_some(*until),
            Self::Weekly { days, from, until } => {
                let today = now.date_naive();
                let of = |date: NaiveDate| {
                    let is_its = days.is_empty() || days.contains(&date.weekday());
                    let end =
                        if until > from { date } else { date.checked_add_days(Days::new(1))? };
                    let (from, until) =
                        (date.and_time(*from).and_utc(), end.and_time(*until).and_utc());
                    (is_its && from <= now && now < until).then_some(until)
                };
                today.checked_sub_days(Days::new(1)).and_then(of).max(of(today))
            }
        }
    }
}

pub(super) fn read(r: &mut Reader) -> Vec<Maintenance> {
    let tables = r.tables(LIST).into_iter().enumerate();
    let mut read = Vec::new();
    for (index, table) in tables {
        let mut entry = Entry { reader: r, list: LIST, place: format!("[{index}]"), table };
        let name = entry.label("name");
        let (days, codes) = (days(&mut entry), codes(&mut entry));
        let when = when(&mut entry, days);
        entry.finish(&KEYS);
        read.extend(when.map(|when| Maintenance { name, when, codes }));
    }
    read
}

fn when(entry: &mut Entry<'_>, days: Vec<Weekday>) -> Option<Window> {
    let (from, until) = (entry.word("from"), entry.word("until"));
    let day = |text: &str| NaiveTime::parse_from_str(text, "%H:%M").ok();
    let at = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    if let (Some(from), Some(until)) = (day(&from), day(&until)) {
        return Some(Window::Weekly { days, from, until });
    }
    let (Some(from), Some(until)) = (at(&from), at(&until)) else {
        let how = "and until must both be times of a day in UTC (\"22:30\") or times \
                   (\"2026-11-22T22:30:00Z\")";
        entry.problem("from", how);
        return None;
    };
    if until <= from {
        entry.problem("until", "must be later than from");
    }
    if !days.is_empty() {
        entry.problem("days", "is for windows whose from and until are times of a day");
    }
    Some(Window::Once { from, until })
}

/// The texts of a list.
fn texts(entry: &mut Entry<'_>, key: &str) -> Vec<String> {
    let Some(value) = entry.table.remove(key) else { return Vec::new() };
    let Ok(values) = value.into_array() else {
        entry.problem(key, "must be a list of texts");
        return Vec::new();
    };
    values.into_iter().map(|value| value.to_string()).collect()
}

fn days(entry: &mut Entry<'_>) -> Vec<Weekday> {
    let mut days = Vec::new();
    for text in texts(entry, "days") {
        match text.parse() {
            Ok(day) => days.push(day),
            Err(_) => entry.problem("days", "must be days such as \"Mon\" or \"Saturday\""),
        }
    }
    days
}

fn codes(entry: &mut Entry<'_>) -> Vec<Code> {
    let mut codes = Vec::new();
    for text in texts(entry, "codes") {
        let Some(code) = Code::parse(&text) else {
            let known = Code::ALL.iter().map(|code| code.name());
            let message = super::values::unknown_key(&text, known);
            let message = message.replace("is not a key", &format!("{text:?} is no code"));
            entry.problem("codes", &message.replace("config/default.toml", "docs/runbook.md"));
            continue;
        };
        codes.push(code);
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn time(text: &str) -> NaiveTime {
        NaiveTime::parse_from_str(text, "%H:%M").unwrap()
    }

    #[test]
    fn a_window_of_a_day_holds_on_its_days_and_over_midnight() {
        // 2026-11-21 is a Saturday.
        let window = |days: &[Weekday], from, until| Window::Weekly {
            days: days.to_vec(),
            from: time(from),
            until: time(until),
        };
        let night = window(&[Weekday::Sat], "22:30", "02:00");
        let end = Some(at("2026-11-22T02:00:00Z"));
        assert_eq!(night.holds_until(at("2026-11-21T22:29:59Z")), None);
        assert_eq!(night.holds_until(at("2026-11-21T22:30:00Z")), end);
        assert_eq!(night.holds_until(at("2026-11-22T01:59:59Z")), end, "it is Sunday by now");
        assert_eq!(night.holds_until(at("2026-11-22T02:00:00Z")), None);
        assert_eq!(night.holds_until(at("2026-11-22T22:30:00Z")), None, "Sunday's is none");
        let daily = window(&[], "01:00", "02:00");
        assert_eq!(daily.holds_until(at("2026-11-25T01:30:00Z")), Some(at("2026-11-25T02:00:00Z")));
        let always = window(&[], "00:00", "00:00");
        assert!(always.is_endless() && !window(&[], "00:00", "23:59").is_endless());
        assert!(!window(&[Weekday::Sun], "00:00", "00:00").is_endless(), "one day");
        assert!(always.holds_until(at("2026-11-25T00:00:00Z")).is_some());
    }

    #[test]
    fn a_window_of_two_times_holds_once() {
        let (from, until) = (at("2026-11-22T20:00:00Z"), at("2026-11-23T04:00:00Z"));
        let window = Window::Once { from, until };
        assert_eq!(window.holds_until(at("2026-11-22T19:59:59Z")), None);
        assert_eq!(window.holds_until(from), Some(until));
        assert_eq!(window.holds_until(until), None);
    }
}
