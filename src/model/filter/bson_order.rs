//! The order of BSON values that MongoDB compares and sorts by, of documents field by field, of
//! strings by their bytes: first by class (all numbers are one), then by value. Its source is the
//! server's own, `BSONElement::compareElements`.

use std::cmp::Ordering;

use super::decimal::Decimal;
use crate::model::bson::{Doc, Malformed, Value, kind};

/// The class of a type, in the order of classes; values of two classes are never equal.
pub const fn class_of(kind: u8) -> u8 {
    match kind {
        kind::MIN_KEY => 0,
        kind::UNDEFINED => 1,
        kind::NULL => 2,
        kind::DOUBLE | kind::INT32 | kind::INT64 | kind::DECIMAL128 => 3,
        kind::STRING | kind::SYMBOL => 4,
        kind::DOCUMENT => 5,
        kind::ARRAY => 6,
        kind::BINARY => 7,
        kind::OBJECT_ID => 8,
        kind::BOOLEAN => 9,
        kind::DATE => 10,
        kind::TIMESTAMP => 11,
        kind::REGEX => 12,
        kind::DB_POINTER => 13,
        kind::CODE => 14,
        kind::CODE_WITH_SCOPE => 15,
        _ => 16,
    }
}

pub fn is_nan(value: Value<'_>) -> bool {
    match number(value) {
        Some(Number::Double(double)) => double.is_nan(),
        Some(Number::Decimal(decimal)) => decimal.is_nan(),
        Some(Number::Whole(_)) | None => false,
    }
}

/// How one value stands to another.
pub fn order(one: Value<'_>, other: Value<'_>) -> Result<Ordering, Malformed> {
    let classes = class_of(one.kind).cmp(&class_of(other.kind));
    if classes != Ordering::Equal {
        return Ok(classes);
    }
    if let (Some(one), Some(other)) = (number(one), number(other)) {
        return Ok(one.order(&other));
    }
    Ok(match one.kind {
        kind::STRING | kind::SYMBOL | kind::CODE => one.as_text().cmp(&other.as_text()),
        kind::DOCUMENT | kind::ARRAY => return of_documents(one.bytes, other.bytes),
        // The bytes begin with their length, after it comes the subtype.
        kind::BINARY => length(one).cmp(&length(other)).then_with(|| rest(one).cmp(rest(other))),
        kind::DATE => one.as_date().cmp(&other.as_date()),
        kind::TIMESTAMP => one.as_timestamp().cmp(&other.as_timestamp()),
        kind::DB_POINTER => {
            one.bytes.len().cmp(&other.bytes.len()).then(one.bytes.cmp(other.bytes))
        }
        kind::CODE_WITH_SCOPE => return of_scopes(one.bytes, other.bytes),
        // An ObjectId, a boolean, a pattern and its options; nothing at all.
        _ => one.bytes.cmp(other.bytes),
    })
}

fn length(value: Value<'_>) -> Option<i32> {
    value.bytes.first_chunk::<4>().map(|bytes| i32::from_le_bytes(*bytes))
}

fn rest(value: Value<'_>) -> &[u8] {
    value.bytes.get(4..).unwrap_or_default()
}

/// Field by field: the classes of the values, then the names, then the values.
fn of_documents(one: &[u8], other: &[u8]) -> Result<Ordering, Malformed> {
    let (mut one, mut other) = (Doc::new(one)?.elements(), Doc::new(other)?.elements());
    loop {
        let ((name, value), (other_name, other_value)) = match (one.next(), other.next()) {
            (None, None) => return Ok(Ordering::Equal),
            (None, Some(_)) => return Ok(Ordering::Less),
            (Some(_), None) => return Ok(Ordering::Greater),
            (Some(one), Some(other)) => (one?, other?),
        };
        let classes = class_of(value.kind).cmp(&class_of(other_value.kind));
        let heads = classes.then_with(|| name.cmp(other_name));
        if heads != Ordering::Equal {
            return Ok(heads);
        }
        let values = order(value, other_value)?;
        if values != Ordering::Equal {
            return Ok(values);
        }
    }
}

/// Code with a scope: a length, the code as a string has it, the scope.
fn of_scopes(one: &[u8], other: &[u8]) -> Result<Ordering, Malformed> {
    let (one, other) = (split_scope(one)?, split_scope(other)?);
    match one.0.cmp(other.0) {
        Ordering::Equal => of_documents(one.1, other.1),
        codes => Ok(codes),
    }
}

fn split_scope(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    const CUT: Malformed = Malformed("code with a scope that is cut off");
    let bytes = bytes.get(4..).ok_or(CUT)?;
    let length = i32::from_le_bytes(*bytes.first_chunk::<4>().ok_or(CUT)?);
    let length = usize::try_from(length).map_err(|_| CUT)?;
    let (code, scope) = bytes.get(4..).and_then(|rest| rest.split_at_checked(length)).ok_or(CUT)?;
    Ok((code, scope))
}

enum Number {
    Whole(i64),
    Double(f64),
    Decimal(Decimal),
}

fn number(value: Value<'_>) -> Option<Number> {
    match value.kind {
        kind::INT32 => value.as_i32().map(|number| Number::Whole(number.into())),
        kind::INT64 => value.as_i64().map(Number::Whole),
        kind::DOUBLE => value.as_f64().map(Number::Double),
        kind::DECIMAL128 => {
            let bytes = value.bytes.try_into().ok()?;
            Some(Number::Decimal(Decimal::of_bytes(bytes)))
        }
        _ => None,
    }
}

impl Number {
    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => one.cmp(other),
            (Self::Whole(whole), Self::Double(double)) => of_mixed(*whole, *double),
            (Self::Double(double), Self::Whole(whole)) => of_mixed(*whole, *double).reverse(),
            (Self::Double(one), Self::Double(other)) => {
                // What is no number comes before all that are.
                let nans = || other.is_nan().cmp(&one.is_nan());
                one.partial_cmp(other).unwrap_or_else(nans)
            }
            (one, other) => one.decimal().order(&other.decimal()),
        }
    }

    fn decimal(&self) -> Decimal {
        match self {
            Self::Whole(whole) => Decimal::of_whole(*whole),
            Self::Double(double) => Decimal::of_double(*double),
            Self::Decimal(decimal) => decimal.clone(),
        }
    }
}

/// Exactly: a double holds no more than 53 bits of a whole number, which has up to 63.
fn of_mixed(whole: i64, double: f64) -> Ordering {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() || double < -TWO_TO_63 {
        return Ordering::Greater;
    }
    if double >= TWO_TO_63 {
        return Ordering::Less;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a whole number within 63 bits")]
    let truncated = double.trunc() as i64;
    let fractions = || 0.0.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal);
    whole.cmp(&truncated).then_with(fractions)
}
