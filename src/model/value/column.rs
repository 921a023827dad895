//! Typed columns: one field of a document, in Postgres's binary format.

use super::bound::{Bound, Unwritable};
use super::date::{PG_EPOCH_DAYS, day_of, days_from_civil};
use super::json::encode_value;
use super::numeric::{encode_numeric, write_number};
use super::scan::{is_plain, write_hex};
use crate::model::bson::{Doc, Value, kind};

/// A column's type: the list of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Text,
    Boolean,
    Integer,
    Bigint,
    Double,
    Numeric,
    Date,
    Timestamptz,
    Jsonb,
    TextArray,
}

impl ColumnType {
    /// Every type by its name in configuration.
    pub const NAMES: [(&'static str, Self); 10] = [
        ("text", Self::Text),
        ("boolean", Self::Boolean),
        ("integer", Self::Integer),
        ("bigint", Self::Bigint),
        ("double", Self::Double),
        ("numeric", Self::Numeric),
        ("date", Self::Date),
        ("timestamptz", Self::Timestamptz),
        ("jsonb", Self::Jsonb),
        ("text[]", Self::TextArray),
    ];

    pub fn parse(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// The type in SQL.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Bigint => "bigint",
            Self::Double => "double precision",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Timestamptz => "timestamp with time zone",
            Self::Jsonb => "jsonb",
            Self::TextArray => "text[]",
        }
    }
}

/// Whether a value fitted its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Written.
    Value,
    /// Absent or null in the document: NULL.
    Null,
    /// Of another type, or out of range: NULL, and counted as drift.
    Drift,
    /// Longer than there is room for: there is no row.
    TooLarge,
}

/// Appends the value in binary; appends nothing unless the result is [`Fit::Value`]. What is
/// written to may become as long as `bound.end`.
pub fn encode_column(
    value: Option<Value<'_>>,
    column: ColumnType,
    bound: Bound,
    out: &mut Vec<u8>,
) -> Fit {
    let Some(value) = value.filter(|v| !matches!(v.kind, kind::NULL | kind::UNDEFINED)) else {
        return Fit::Null;
    };
    let start = out.len();
    let written = match column {
        ColumnType::Text => text(value, bound.end, out),
        ColumnType::Boolean => value.as_bool().map(|b| out.push(u8::from(b))),
        ColumnType::Integer => {
            integer(value).and_then(|n| i32::try_from(n).ok()).map(|n| put(out, &n.to_be_bytes()))
        }
        ColumnType::Bigint => integer(value).map(|n| put(out, &n.to_be_bytes())),
        ColumnType::Double => double(value).map(|n| put(out, &n.to_be_bytes())),
        ColumnType::Numeric => numeric(value, out),
        ColumnType::Date => value.as_date().and_then(pg_date).map(|n| put(out, &n.to_be_bytes())),
        ColumnType::Timestamptz => {
            value.as_date().and_then(pg_timestamp).map(|n| put(out, &n.to_be_bytes()))
        }
        ColumnType::Jsonb => {
            out.push(1);
            match encode_value(value, bound, out) {
                Ok(_) => Some(()),
                Err(Unwritable::Malformed(_)) => None,
                Err(Unwritable::Fields | Unwritable::Bytes) => {
                    out.truncate(start);
                    return Fit::TooLarge;
                }
            }
        }
        ColumnType::TextArray => text_array(value, bound.end, out),
    };
    let fit = match written {
        Some(()) if out.len() <= bound.end => return Fit::Value,
        Some(()) => Fit::TooLarge,
        None => Fit::Drift,
    };
    out.truncate(start);
    fit
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

/// What `doc ->> field` would give for a scalar; documents and arrays do not fit. What cannot be
/// stored grows as it is replaced: that ends where there is no more room.
pub(super) fn text(value: Value<'_>, end: usize, out: &mut Vec<u8>) -> Option<()> {
    match value.kind {
        kind::STRING | kind::SYMBOL => {
            let text = value.as_text()?;
            if is_plain(text) {
                put(out, text);
                return Some(());
            }
            for chunk in text.utf8_chunks() {
                for (index, part) in chunk.valid().split('\0').enumerate() {
                    if out.len() > end {
                        return Some(());
                    }
                    if index > 0 {
                        put(out, REPLACEMENT);
                    }
                    put(out, part.as_bytes());
                }
                if !chunk.invalid().is_empty() {
                    put(out, REPLACEMENT);
                }
            }
        }
        kind::INT32 | kind::INT64 | kind::DOUBLE | kind::DECIMAL128 => {
            write_number(value, out)?;
        }
        kind::BOOLEAN => put(out, if value.as_bool()? { b"true" } else { b"false" }),
        kind::OBJECT_ID => write_hex(value.bytes, out),
        kind::DATE => return super::date::rfc3339_millis(value.as_date()?, out).then_some(()),
        _ => return None,
    }
    Some(())
}

/// For what Postgres cannot store: U+FFFD.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

fn integer(value: Value<'_>) -> Option<i64> {
    match value.kind {
        kind::INT32 => value.as_i32().map(i64::from),
        kind::INT64 => value.as_i64(),
        kind::DOUBLE => whole(value.as_f64()?),
        _ => None,
    }
}

/// A double that is exactly an i64: other tools write whole numbers as doubles.
fn whole(number: f64) -> Option<i64> {
    let limit = 9_007_199_254_740_992.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53, so exact")]
    let exact = (number.fract() == 0.0 && number.abs() <= limit).then_some(number as i64);
    exact
}

fn double(value: Value<'_>) -> Option<f64> {
    match value.kind {
        kind::DOUBLE => value.as_f64(),
        kind::INT32 => value.as_i32().map(f64::from),
        kind::INT64 => {
            let number = value.as_i64()?;
            #[expect(clippy::cast_precision_loss, reason = "bounded to 2^53, so exact")]
            let exact = (number.unsigned_abs() <= 1 << 53).then_some(number as f64);
            exact
        }
        _ => None,
    }
}

fn numeric(value: Value<'_>, out: &mut Vec<u8>) -> Option<()> {
    encode_numeric(&numeric_text(value)?, out).then_some(())
}

/// A number's exact text.
pub(super) fn numeric_text(value: Value<'_>) -> Option<String> {
    let mut digits = Vec::with_capacity(48);
    if !matches!(value.kind, kind::INT32 | kind::INT64 | kind::DOUBLE | kind::DECIMAL128) {
        return None;
    }
    write_number(value, &mut digits)?;
    String::from_utf8(digits).ok()
}

/// Days since 2000-01-01, within what `date` holds (4713 BC to 5874897 AD).
fn pg_date(millis: i64) -> Option<i32> {
    const MIN: i64 = days_from_civil(-4712, 1, 1);
    const MAX: i64 = days_from_civil(5_874_897, 12, 31);
    let day = day_of(millis);
    (MIN..=MAX).contains(&day).then(|| day - PG_EPOCH_DAYS).and_then(|d| i32::try_from(d).ok())
}

/// Microseconds since 2000-01-01, within what `timestamptz` holds (4713 BC to 294276 AD).
fn pg_timestamp(millis: i64) -> Option<i64> {
    const MIN: i64 = days_from_civil(-4712, 1, 1);
    const MAX: i64 = days_from_civil(294_276, 12, 31);
    (MIN..=MAX).contains(&day_of(millis)).then(|| (millis - PG_EPOCH_DAYS * 86_400_000) * 1000)
}

/// Binary `text[]`: dimensions, null flag, element type, length, lower bound, elements.
fn text_array(value: Value<'_>, end: usize, out: &mut Vec<u8>) -> Option<()> {
    const TEXT_OID: i32 = 25;
    if value.kind != kind::ARRAY {
        return None;
    }
    let start = out.len();
    let (mut count, mut has_null) = (0_i32, 0_i32);
    for header in [1, 0, TEXT_OID, 0, 1] {
        put(out, &i32::to_be_bytes(header));
    }
    for element in value.as_document()?.elements() {
        let (_, element) = element.ok()?;
        count += 1;
        let at = out.len();
        put(out, &(-1_i32).to_be_bytes());
        if matches!(element.kind, kind::NULL | kind::UNDEFINED) {
            has_null = 1;
            continue;
        }
        text(element, end, out)?;
        if out.len() > end {
            return Some(());
        }
        let length = i32::try_from(out.len() - at - 4).ok()?;
        overwrite(out, at, length);
    }
    if count == 0 {
        out.truncate(start);
        for header in [0, 0, TEXT_OID] {
            put(out, &i32::to_be_bytes(header));
        }
        return Some(());
    }
    overwrite(out, start + 4, has_null);
    overwrite(out, start + 12, count);
    Some(())
}

fn overwrite(out: &mut [u8], at: usize, number: i32) {
    if let Some(slot) = out.get_mut(at..at + 4) {
        slot.copy_from_slice(&number.to_be_bytes());
    }
}

/// Finds a dotted path in a document. Through arrays there is no path: the field counts as absent.
/// Of equal keys the last counts, as in `doc`, which is a `jsonb`.
pub(crate) fn find<'a>(doc: Doc<'a>, path: &[Box<str>]) -> Option<Value<'a>> {
    let (last, parents) = path.split_last()?;
    let mut doc = doc;
    for name in parents {
        let value = last_of(doc, name)?;
        doc = value.as_document().filter(|_| value.kind == kind::DOCUMENT)?;
    }
    last_of(doc, last)
}

fn last_of<'a>(doc: Doc<'a>, name: &str) -> Option<Value<'a>> {
    let named = doc.elements().flatten().filter(|(key, _)| *key == name.as_bytes());
    named.last().map(|(_, value)| value)
}
