//! A value as a cell of JSON that Postgres casts to the column's type: what is inside an array is
//! sent so, where a column by itself is sent in binary.

use super::binary::array_literal;
use super::bound::Bound;
use super::column::{ColumnType, Fit, encode_column, numeric_text};
use super::date::{postgres_date, postgres_time};
use super::zone::{Zone, encode_day};
use crate::model::bson::Value;

/// Appends the cell of a value, `null` unless it fits; says what [`encode_column`] would. `binary`
/// is there to be used again.
///
/// A `jsonb` is a cell as it is, of any other type `->>` gives the text that is cast.
pub fn encode_cell(
    value: Option<Value<'_>>,
    (column, zone): (ColumnType, Option<Zone>),
    bound: Bound,
    binary: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Fit {
    binary.clear();
    let left = Bound { end: bound.end.saturating_sub(out.len()), ..bound };
    let fit = match zone {
        Some(zone) => encode_day(value, zone, left, binary),
        None => encode_column(value, column, left, binary),
    };
    let written = match fit {
        Fit::Value => write(value, column, binary, out),
        Fit::Null | Fit::Drift | Fit::TooLarge => None,
    };
    if written.is_none() {
        out.extend_from_slice(b"null");
    }
    if out.len() > bound.end { Fit::TooLarge } else { fit }
}

/// What Postgres would send back of a column's binary value, as JSON.
fn write(
    value: Option<Value<'_>>,
    column: ColumnType,
    binary: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    match column {
        ColumnType::Text => text(std::str::from_utf8(binary).ok()?, out)?,
        ColumnType::Boolean => {
            out.extend_from_slice(if binary == [1] { b"true" } else { b"false" });
        }
        ColumnType::Integer => number(i32::from_be_bytes(binary.try_into().ok()?), out),
        ColumnType::Bigint => number(i64::from_be_bytes(binary.try_into().ok()?), out),
        ColumnType::Double => {
            // As text: the number of a `jsonb` is a decimal, and none of them is not finite.
            let number = f64::from_be_bytes(binary.try_into().ok()?);
            text(ryu::Buffer::new().format(number), out)?;
        }
        ColumnType::Numeric => text(&numeric_text(value?)?, out)?,
        ColumnType::Date => {
            let days = i64::from(i32::from_be_bytes(binary.try_into().ok()?));
            text(&postgres_date(days), out)?;
        }
        ColumnType::Timestamptz => {
            let micros = i64::from_be_bytes(binary.try_into().ok()?);
            text(&postgres_time(micros), out)?;
        }
        ColumnType::Jsonb => {
            out.extend_from_slice(binary.get(1..)?);
        }
        ColumnType::TextArray => text(std::str::from_utf8(&array_literal(binary)?).ok()?, out)?,
    }
    Some(())
}

fn text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(out, text).ok()
}

fn number(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use bson::{Bson, DateTime, doc};
    use proptest::prelude::*;

    use super::*;
    use crate::model::bson::Doc;
    use crate::model::value::days_from_civil;

    fn cell(value: Bson, column: ColumnType) -> (Fit, serde_json::Value) {
        let bytes = doc! { "v": value }.to_vec().unwrap();
        let value = Doc::new(&bytes).unwrap().get("v").unwrap();
        let (mut binary, mut out) = (Vec::new(), Vec::new());
        let fit = encode_cell(value, (column, None), Bound::NONE, &mut binary, &mut out);
        (fit, serde_json::from_slice(&out).unwrap())
    }

    /// Microseconds since 2000 of what Postgres is sent.
    fn read_back(text: &str) -> i128 {
        let (text, is_before) = match text.strip_suffix(" BC") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let parts = text.trim_end_matches("+00").split(['-', ' ', ':', '.']);
        let [year, month, day, hour, minute, second, fraction] =
            parts.map(|part| part.parse::<i64>().unwrap()).collect::<Vec<_>>()[..]
        else {
            panic!("{text}")
        };
        let year = if is_before { 1 - year } else { year };
        let days = days_from_civil(year, month, day) - days_from_civil(2000, 1, 1);
        let seconds = i128::from(days) * 86_400 + i128::from(hour * 3600 + minute * 60 + second);
        seconds * 1_000_000 + i128::from(fraction)
    }

    #[test]
    fn what_does_not_fit_is_null_and_what_is_too_long_is_told() {
        assert_eq!(cell("x".into(), ColumnType::Integer), (Fit::Drift, serde_json::Value::Null));
        assert_eq!(cell(Bson::Null, ColumnType::Text), (Fit::Null, serde_json::Value::Null));
        assert_eq!(cell(7.into(), ColumnType::Bigint), (Fit::Value, 7.into()));
        assert_eq!(cell(f64::NAN.into(), ColumnType::Double).1, "NaN");
        let day = |millis| cell(DateTime::from_millis(millis).into(), ColumnType::Date).1;
        assert_eq!(day(-62_135_596_800_000), "0001-01-01");
        let ides = days_from_civil(-43, 3, 15) * 86_400_000;
        assert_eq!(day(ides), "0044-03-15 BC");
        let bytes = doc! { "v": "x".repeat(90) }.to_vec().unwrap();
        let value = Doc::new(&bytes).unwrap().get("v").unwrap();
        let bound = Bound { end: 95, ..Bound::NONE };
        let mut out = b"[123".to_vec();
        let column = (ColumnType::Text, None);
        assert_eq!(encode_cell(value, column, bound, &mut Vec::new(), &mut out), Fit::TooLarge);
    }

    proptest! {
        #[test]
        fn any_text_is_the_one_that_a_column_holds(text in any::<String>()) {
            let held = text.replace('\0', "\u{fffd}");
            prop_assert_eq!(cell(text.into(), ColumnType::Text), (Fit::Value, held.into()));
        }

        #[test]
        fn any_time_is_read_back_as_it_was(millis in any::<i64>().prop_map(|n| n >> 10)) {
            let (fit, cell) = cell(DateTime::from_millis(millis).into(), ColumnType::Timestamptz);
            if fit == Fit::Value {
                let since = i128::from(millis) - 946_684_800_000;
                prop_assert_eq!(read_back(cell.as_str().unwrap()), since * 1000);
            } else {
                prop_assert!(millis.unsigned_abs() > 200_000_000_000_000, "{}", millis);
            }
        }
    }
}
