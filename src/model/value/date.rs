//! BSON dates: milliseconds since 1970 in an i64, far wider than any calendar.

const DAY_MILLIS: i64 = 86_400_000;
const DAY_MICROS: i64 = DAY_MILLIS * 1000;

/// Days from 1970-01-01 to Postgres's epoch, 2000-01-01.
pub(super) const PG_EPOCH_DAYS: i64 = 10_957;

/// Days since 1970-01-01 → (year, month, day), proleptic Gregorian. Howard Hinnant's
/// `civil_from_days`.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// (year, month, day) → days since 1970-01-01, proleptic Gregorian.
pub const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Days since 1970-01-01 (UTC) of a BSON date, rounded down.
pub const fn day_of(millis: i64) -> i64 {
    millis.div_euclid(DAY_MILLIS)
}

/// Writes `2026-11-22T10:14:50.634Z`; outside the years 0001–9999 writes nothing and returns
/// false.
pub fn rfc3339_millis(millis: i64, out: &mut Vec<u8>) -> bool {
    let (year, month, day) = civil_from_days(day_of(millis));
    if !(1..=9999).contains(&year) {
        return false;
    }
    let in_day = millis.rem_euclid(DAY_MILLIS);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let parts = [
        (year, 0..4),
        (month, 5..7),
        (day, 8..10),
        (in_day / 3_600_000, 11..13),
        (in_day / 60_000 % 60, 14..16),
        (in_day / 1000 % 60, 17..19),
        (in_day % 1000, 20..23),
    ];
    for (number, place) in parts {
        if let Some(digits) = text.get_mut(place) {
            write_digits(number, digits);
        }
    }
    out.extend_from_slice(&text);
    true
}

/// A day, counted from Postgres's epoch, as Postgres reads it whatever a session's settings are.
pub(super) fn postgres_date(days: i64) -> String {
    let (day, era) = day_and_era(days);
    day + era
}

/// A time in UTC, in microseconds from Postgres's epoch, read so likewise.
pub(super) fn postgres_time(micros: i64) -> String {
    let (day, era) = day_and_era(micros.div_euclid(DAY_MICROS));
    let in_day = micros.rem_euclid(DAY_MICROS);
    let (seconds, fraction) = (in_day / 1_000_000, in_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{day} {hour:02}:{minute:02}:{second:02}.{fraction:06}+00{era}")
}

/// Of a year before the first, Postgres wants the number that people give it.
fn day_and_era(days: i64) -> (String, &'static str) {
    let (year, month, day) = civil_from_days(days + PG_EPOCH_DAYS);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

/// Fills `digits` from the right; formatting machinery would be a tenth of all encoding.
fn write_digits(mut number: i64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(millis: i64) -> Option<String> {
        let mut out = Vec::new();
        rfc3339_millis(millis, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn dates_are_written_with_milliseconds_and_only_in_years_1_to_9999() {
        assert_eq!(text(0).unwrap(), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(-1).unwrap(), "1969-12-31T23:59:59.999Z");
        assert_eq!(text(1_795_342_490_634).unwrap(), "2026-11-22T10:14:50.634Z");
        assert_eq!(text(-62_135_596_800_000).unwrap(), "0001-01-01T00:00:00.000Z");
        assert_eq!(text(-62_135_596_800_001), None);
        assert_eq!(text(253_402_300_799_999).unwrap(), "9999-12-31T23:59:59.999Z");
        assert_eq!(text(253_402_300_800_000), None);
        assert_eq!(text(i64::MIN), None);
        assert_eq!(text(i64::MAX), None);
    }

    proptest! {
        #[test]
        fn the_calendar_agrees_with_chrono(millis in -62_135_596_800_000_i64..253_402_300_800_000) {
            let expected = chrono::DateTime::from_timestamp_millis(millis).unwrap();
            let expected = expected.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            prop_assert_eq!(text(millis).unwrap(), expected);
        }

        #[test]
        fn days_and_civil_dates_are_inverse(days in -4_000_000_i64..4_000_000) {
            let (year, month, day) = civil_from_days(days);
            prop_assert_eq!(days_from_civil(year, month, day), days);
        }
    }
}
