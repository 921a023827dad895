//! Days in a zone. Whoever stores a day as midnight of a local time stores 23:00 of the day before
//! for half of the year, as UTC has it.

use chrono::{DateTime, Offset, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::bound::Bound;
use super::column::{ColumnType, Fit, encode_column};
use super::date::day_of;
use crate::model::bson::{Value, kind};

/// A zone of the IANA database, which is compiled in: a day is the same on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone(Tz);

impl Zone {
    /// `Europe/London`.
    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Every name there is.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// Whether a day begins at a time, in milliseconds since 1970, in a zone or else in UTC. Days
    /// begin an hour late where the clocks are put forward at midnight.
    pub fn begins_a_day(zone: Option<Self>, millis: i64) -> bool {
        let day = |millis| day_of(zone.map_or(millis, |zone| zone.local(millis)));
        day(millis) != day(millis.saturating_sub(1))
    }

    /// What the zone's clocks show, as if they were UTC's. Beyond the years chrono has, by the
    /// offset of the last one that it has.
    fn local(self, millis: i64) -> i64 {
        let end = if millis < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        let at = DateTime::from_timestamp_millis(millis).unwrap_or(end);
        let offset = self.0.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
        millis.saturating_add(i64::from(offset) * 1_000)
    }
}

/// As [`encode_column`] for a `date`, with the day that a date is in a zone.
pub fn encode_day(value: Option<Value<'_>>, zone: Zone, bound: Bound, out: &mut Vec<u8>) -> Fit {
    let local = value.and_then(|value| value.as_date()).map(|at| zone.local(at).to_le_bytes());
    let local = local.as_ref().map(|bytes| Value { kind: kind::DATE, bytes });
    encode_column(local.or(value), ColumnType::Date, bound, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis()
    }

    /// Days since 2000-01-01 as Postgres is sent them, as a date.
    fn day(at: i64, zone: &str) -> String {
        let bytes = at.to_le_bytes();
        let value = Value { kind: kind::DATE, bytes: &bytes };
        let mut out = Vec::new();
        let zone = Zone::parse(zone).unwrap();
        assert_eq!(encode_day(Some(value), zone, Bound::NONE, &mut out), Fit::Value);
        let days = i32::from_be_bytes(out.try_into().unwrap());
        let epoch = chrono::NaiveDate::from_ymd_opt(2000, 1, 1).unwrap();
        (epoch + chrono::Duration::days(days.into())).to_string()
    }

    #[test]
    fn a_local_midnight_is_its_own_day_in_summer_and_in_winter() {
        for (at, zone, expected) in [
            ("2024-06-30T23:00:00Z", "Europe/London", "2024-07-01"),
            ("2024-12-31T00:00:00Z", "Europe/London", "2024-12-31"),
            ("2024-06-30T22:59:59Z", "Europe/London", "2024-06-30"),
            ("2024-07-01T04:00:00Z", "America/New_York", "2024-07-01"),
            ("2024-07-01T03:59:59Z", "America/New_York", "2024-06-30"),
            ("2024-06-30T18:30:00Z", "Asia/Kolkata", "2024-07-01"),
            ("2024-07-01T00:00:00Z", "UTC", "2024-07-01"),
        ] {
            assert_eq!(day(millis(at), zone), expected, "{at} in {zone}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_or_where_the_clocks_are_put_forward_then() {
        let begins = |at: &str, zone: Option<&str>| {
            Zone::begins_a_day(zone.map(|zone| Zone::parse(zone).unwrap()), millis(at))
        };
        assert!(begins("2024-07-01T00:00:00Z", None));
        assert!(!begins("2024-06-30T23:00:00Z", None));
        assert!(begins("2024-06-30T23:00:00Z", Some("Europe/London")));
        assert!(!begins("2024-07-01T00:00:00Z", Some("Europe/London")));
        // 2018-11-04 had no midnight in São Paulo.
        assert!(begins("2018-11-04T03:00:00Z", Some("America/Sao_Paulo")));
    }

    #[test]
    fn times_beyond_every_calendar_are_days_or_drift_and_never_a_panic() {
        let zone = Zone::parse("Asia/Kolkata").unwrap();
        for at in [i64::MIN, i64::MAX, 8_210_266_876_799_999, -8_334_601_228_800_000] {
            let bytes = at.to_le_bytes();
            let value = Value { kind: kind::DATE, bytes: &bytes };
            let fit = encode_day(Some(value), zone, Bound::NONE, &mut Vec::new());
            assert!(matches!(fit, Fit::Value | Fit::Drift), "{at}");
            let _ = Zone::begins_a_day(Some(zone), at);
        }
        assert_eq!(encode_day(None, zone, Bound::NONE, &mut Vec::new()), Fit::Null);
        let text = Value { kind: kind::STRING, bytes: b"\x02\0\0\0a\0" };
        assert_eq!(encode_day(Some(text), zone, Bound::NONE, &mut Vec::new()), Fit::Drift);
        assert_eq!(Zone::parse("Europe/Londn"), None);
        assert!(Zone::names().any(|name| name == "Europe/London"));
    }
}
