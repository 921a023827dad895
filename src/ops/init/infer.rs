//! From what was seen of a field to a column: its type, and what a person should know of it.

use super::fields::{ArrayElements, Family, Field};
use crate::model::format::percent;
use crate::model::value::{ColumnType, Zone};

/// With fewer keys a document is none that is a map, however seldom each is there.
const MAP_KEYS_MIN: u64 = 6;

/// A nested document with more fields than these is one value: a map, or somebody else's document.
const NESTED_FIELDS_MAX: usize = 40;

/// An array is a table of its own if so many in a hundred of its elements are documents.
const NEARLY_ALL: u64 = 95;

/// Whose midnights all of a field's dates are, where they are not UTC's.
pub fn zone(field: &Field) -> Option<Zone> {
    let are_utc = field.midnights == field.present;
    let is_all = |count: u64| count == field.present && field.is_only(&[Family::Date]);
    let mut zones = field.days_in.iter().filter(|_| !are_utc);
    zones.find(|(_, count)| is_all(*count)).map(|(zone, _)| *zone)
}

/// The type that takes what was seen, and why it is this one where that is not plain. `all` of it
/// must fit where nothing else keeps it.
pub fn column_type(field: &Field, all: bool) -> (ColumnType, Option<String>) {
    if !is_ever_set(field) {
        return (ColumnType::Jsonb, Some("never more than null or empty in the sample".to_owned()));
    }
    let (kind, why) = natural_type(field);
    let (fitting, present) = (field.fitting(kind), field.present);
    if fitting == 0 {
        (ColumnType::Jsonb, Some(format!("! out of the range of {}", kind.sql())))
    } else if all && fitting < present {
        let share = percent(present - fitting, present);
        (ColumnType::Jsonb, Some(format!("! {share} out of the range of {}", kind.sql())))
    } else {
        (kind, why)
    }
}

/// Whether it was more than null or an empty array.
pub fn is_ever_set(field: &Field) -> bool {
    field.present > 0 && !field.is_only(&[Family::EmptyArray])
}

fn natural_type(field: &Field) -> (ColumnType, Option<String>) {
    if field.is_only(&[Family::Boolean]) {
        return (ColumnType::Boolean, None);
    }
    if field.is_only(&[Family::Whole, Family::Double, Family::Decimal]) {
        return (number(field), None);
    }
    if field.is_only(&[Family::Date]) {
        return date(field);
    }
    if field.is_only(&[Family::Text]) {
        return (ColumnType::Text, None);
    }
    if field.is_only(&[Family::ObjectId]) {
        return (ColumnType::Text, Some("ObjectId, as 24 hex digits".to_owned()));
    }
    if field.is_only(&[Family::Texts, Family::EmptyArray]) && field.of(Family::Texts) > 0 {
        return (ColumnType::TextArray, None);
    }
    let told = match field.families().map(|(family, _)| family).collect::<Vec<_>>().as_slice() {
        [Family::Array | Family::EmptyArray | Family::Texts, ..]
            if field.is_only(&[Family::Array, Family::EmptyArray, Family::Texts]) =>
        {
            if elements(field).is_some() { "arrays of documents" } else { "arrays" }.to_owned()
        }
        [Family::Document] => "documents".to_owned(),
        [Family::Binary] => "binary, as base64".to_owned(),
        [Family::Rare] => "as Extended JSON".to_owned(),
        _ => format!("mixed: {}", mixture(field)),
    };
    let is_text = field.fitting(ColumnType::Text) == field.present;
    (if is_text { ColumnType::Text } else { ColumnType::Jsonb }, Some(told))
}

fn number(field: &Field) -> ColumnType {
    let candidates: &[ColumnType] = if field.of(Family::Decimal) > 0 {
        &[]
    } else if field.of(Family::Double) > 0 {
        &[ColumnType::Double]
    } else if field.large > 0 {
        &[ColumnType::Bigint]
    } else {
        &[ColumnType::Integer, ColumnType::Bigint]
    };
    let mut candidates = candidates.iter().copied();
    let fitting = candidates.find(|kind| field.fitting(*kind) == field.present);
    fitting.unwrap_or(ColumnType::Numeric)
}

fn date(field: &Field) -> (ColumnType, Option<String>) {
    let Field { present, midnights, .. } = *field;
    let are_days = midnights == present || zone(field).is_some();
    if are_days && field.fitting(ColumnType::Date) == present {
        return (ColumnType::Date, None);
    }
    let warning = if field.are_local_midnights() {
        Some(format!(
            "! these read like days at midnight of a local time; {midnights} of {present} are \
             midnight UTC, as a date column takes them: `init --zone Europe/London` tries a zone"
        ))
    } else if midnights * 2 > present {
        Some(format!("! {midnights} of {present} are midnight UTC: days and times are mixed"))
    } else {
        None
    };
    (ColumnType::Timestamptz, warning)
}

/// `text 97 %, whole numbers 3 %`, the most frequent first.
fn mixture(field: &Field) -> String {
    let mut families: Vec<(Family, u64)> = field.families().collect();
    families.sort_by_key(|(family, count)| (std::cmp::Reverse(*count), *family));
    let told: Vec<String> = families
        .into_iter()
        .map(|(family, count)| format!("{} {}", name(family), percent(count, field.present)))
        .collect();
    told.join(", ")
}

const fn name(family: Family) -> &'static str {
    match family {
        Family::Boolean => "booleans",
        Family::Whole => "whole numbers",
        Family::Double => "doubles",
        Family::Decimal => "decimals",
        Family::Text => "texts",
        Family::ObjectId => "ObjectIds",
        Family::Date => "dates",
        Family::Texts => "arrays of texts",
        Family::EmptyArray => "empty arrays",
        Family::Array => "arrays",
        Family::Document => "documents",
        Family::Binary => "binary",
        Family::Rare => "rare types",
    }
}

/// Whether a field's documents have a column for each of their fields, instead of being one value.
pub fn is_nested(field: &Field) -> bool {
    field.is_only(&[Family::Document])
        && field.children.len() <= NESTED_FIELDS_MAX
        && has_columns(field)
        && !field.unnamed
}

/// The elements of a field's arrays, if they are documents that could be the rows of a table.
pub fn elements(field: &Field) -> Option<&ArrayElements> {
    let elements = field.elements.as_deref()?;
    let is_nearly_all = |part: u64, whole: u64| part > 0 && part * 100 >= whole * NEARLY_ALL;
    let is_table = is_nearly_all(arrays(field), field.present)
        && is_nearly_all(elements.documents.present, elements.number)
        && has_columns(&elements.documents);
    is_table.then_some(elements)
}

/// How many of a field's values are arrays.
pub fn arrays(field: &Field) -> u64 {
    let families = [Family::Array, Family::EmptyArray, Family::Texts];
    families.iter().map(|family| field.of(*family)).sum()
}

/// Whether documents are alike, and not one value each.
fn has_columns(field: &Field) -> bool {
    let mut names = field.children.iter().map(|(name, _)| &**name);
    !field.children.is_empty() && !is_map(field) && !is_geo_json(field) && !names.any(is_data)
}

/// A map has other keys in each document. What its keys are, names and the like, is data.
fn is_map(field: &Field) -> bool {
    let keys = field.children.len() as u64;
    let met: u64 = field.children.iter().map(|(_, child)| child.present + child.nulls).sum();
    keys >= MAP_KEYS_MIN && met < keys * field.present.div_ceil(3)
}

/// A point or a shape, which what reads it wants whole.
fn is_geo_json(field: &Field) -> bool {
    let has = |name: &str| field.children.iter().any(|(known, _)| &**known == name);
    field.children.len() <= 3 && has("type") && has("coordinates")
}

/// Whether a key reads like data: a number, a date, an id, an address.
pub fn is_data(key: &str) -> bool {
    let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '/' | '_');
    let is_hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    let is_number = key.chars().all(is_digit) && key.contains(|c: char| c.is_ascii_digit());
    let is_id =
        key.len() >= 24 && key.chars().all(is_hex) && key.contains(|c: char| c.is_ascii_digit());
    is_number || is_id || key.contains('@')
}
