//! `[[stream.column]]`: the columns of a stream, each with the fields it reads.

use std::collections::BTreeSet;

use config::Value;

use super::entry::Entry;
use super::values::nearest;
use crate::model::redaction::{Mask, parse_path};
use crate::model::value::{ColumnType, Zone};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The field's path and its aliases', in the order they are tried.
    pub paths: Vec<Vec<Box<str>>>,
    pub kind: ColumnType,
    pub required: bool,
    pub mask: Option<Mask>,
    /// Whose days a `date` holds; UTC's where there is none.
    pub zone: Option<Zone>,
}

impl Column {
    /// The fields it reads, as configured: its own, then its aliases.
    pub fn fields(&self) -> Vec<String> {
        self.paths.iter().map(|path| path.join(".")).collect()
    }
}

const COLUMN_KEYS: [&str; 7] = ["name", "field", "type", "required", "aliases", "mask", "zone"];
/// What a followed table, or that of its versions, has besides.
pub(super) const RESERVED: [&str; 11] = [
    "id",
    "doc",
    "_cluster_time",
    "_applied_at",
    "_hash",
    "_deleted_at",
    "_valid_from",
    "_valid_to",
    "_valid_from_at",
    "_valid_to_at",
    "_operation",
];

/// The columns of the table `within`, none called as the `reserved` ones that it has besides.
pub(super) fn read_columns(entry: &mut Entry<'_>, within: &str, reserved: &[&str]) -> Vec<Column> {
    let Some(value) = entry.table.remove("column") else { return Vec::new() };
    let Ok(elements) = value.into_array() else {
        entry.problem("column", "must be a list of tables: [[stream.column]]");
        return Vec::new();
    };
    let mut columns = Vec::with_capacity(elements.len());
    let mut seen: BTreeSet<String> = reserved.iter().map(|&name| name.to_owned()).collect();
    for (index, element) in elements.into_iter().enumerate() {
        let table = element.into_table().map(|t| t.into_iter().collect()).unwrap_or_default();
        let place = format!("{within}.column[{index}]");
        let mut entry = Entry { reader: &mut *entry.reader, list: entry.list, place, table };
        let column = read_column(&mut entry);
        if !seen.insert(column.name.clone()) {
            entry.problem(
                "name",
                &format!("{:?} is used twice or is one of {}", column.name, reserved.join(", ")),
            );
        }
        entry.finish(&COLUMN_KEYS);
        columns.push(column);
    }
    columns
}

fn read_column(entry: &mut Entry<'_>) -> Column {
    let name = entry.identifier("name");
    let field = entry.word("field");
    let type_name = entry.word("type");
    let kind = ColumnType::parse(&type_name);
    if kind.is_none() {
        let names: Vec<_> = ColumnType::NAMES.iter().map(|(name, _)| *name).collect();
        entry.problem("type", &format!("must be one of {}", names.join(" ")));
    }
    let required = entry.table.remove("required").map(Value::into_bool);
    if matches!(required, Some(Err(_))) {
        entry.problem("required", "must be true or false");
    }
    let mask = read_mask(entry, kind);
    let zone = read_zone(entry, kind);
    let mut paths = vec![path(&field)];
    if let Some(value) = entry.table.remove("aliases") {
        let aliases = value.into_array().unwrap_or_default();
        for alias in aliases {
            match alias.into_string() {
                Ok(text) if !text.is_empty() => paths.push(path(&text)),
                _ => entry.problem("aliases", "must be a list of field paths"),
            }
        }
    }
    let required = matches!(required, Some(Ok(true)));
    if let (Some(mask), Some(why)) = (mask, paths.iter().find_map(|path| unmaskable(path))) {
        entry.problem("field", &format!("{why}: no mask {mask} is put there"));
    }
    Column { name, paths, kind: kind.unwrap_or(ColumnType::Text), required, mask, zone }
}

pub(super) fn path(dotted: &str) -> Vec<Box<str>> {
    dotted.split('.').map(Into::into).collect()
}

/// Why a path leads to nothing that could be masked.
fn unmaskable(path: &[Box<str>]) -> Option<&'static str> {
    parse_path(&path.join(".")).err()
}

fn read_zone(entry: &mut Entry<'_>, kind: Option<ColumnType>) -> Option<Zone> {
    let name = entry.optional("zone").filter(|name| !name.is_empty())?;
    if kind.is_some_and(|kind| kind != ColumnType::Date) {
        entry.problem("zone", "goes with type = \"date\" alone: a time is the same in every zone");
    }
    let zone = Zone::parse(&name);
    if zone.is_none() {
        let meant = nearest(&name, Zone::names());
        let meant = meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
        entry.problem("zone", &format!("{name:?} is no zone such as \"Europe/London\"{meant}"));
    }
    zone
}

/// A mask, of a column whose type can hold what stands in its place.
fn read_mask(entry: &mut Entry<'_>, kind: Option<ColumnType>) -> Option<Mask> {
    let text = entry.optional("mask").filter(|text| !text.is_empty())?;
    let Some(mask) = Mask::parse(&text) else {
        let message = "must be \"null\", \"hash\" or \"first_N\", N from 1 to 1000";
        entry.problem("mask", message);
        return None;
    };
    let holds_text =
        matches!(kind, None | Some(ColumnType::Text | ColumnType::TextArray | ColumnType::Jsonb));
    if mask.makes_text() && !holds_text {
        let message = format!("{text:?} makes a text: the type must be text, text[] or jsonb");
        entry.problem("mask", &message);
    }
    Some(mask)
}
