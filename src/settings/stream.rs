//! `[[stream]]`: what is followed, and how its documents become columns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::Value;

use super::entry::Entry;
use super::values::{Reader, parse_duration};
use crate::model::value::ColumnType;

/// The group of a stream that names none.
pub const MAIN: &str = "main";

/// Where the document of an update comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostImage {
    /// Read from the collection, once for a batch.
    Lookup,
    /// The stored post-image where there is one, else looked up.
    WhenAvailable,
    /// The stored post-image; the server refuses without one.
    Required,
}

impl PostImage {
    pub const NAMES: [(&'static str, Self); 3] = [
        ("lookup", Self::Lookup),
        ("when_available", Self::WhenAvailable),
        ("required", Self::Required),
    ];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    pub name: String,
    /// The group it is followed in.
    pub group: String,
    pub collection: String,
    pub table: String,
    pub post_image: PostImage,
    pub expect_changes_within: Option<Duration>,
    pub columns: Vec<Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// The field's path and its aliases', in the order they are tried.
    pub paths: Vec<Vec<Box<str>>>,
    pub kind: ColumnType,
    pub required: bool,
}

impl Column {
    /// The fields it reads, as configured: its own, then its aliases.
    pub fn fields(&self) -> Vec<String> {
        self.paths.iter().map(|path| path.join(".")).collect()
    }
}

const STREAM_KEYS: [&str; 7] =
    ["name", "group", "collection", "table", "post_image", "expect_changes_within", "column"];
const COLUMN_KEYS: [&str; 5] = ["name", "field", "type", "required", "aliases"];
const RESERVED: [&str; 5] = ["id", "doc", "_cluster_time", "_applied_at", "_hash"];

pub(super) fn read(r: &mut Reader) -> Vec<StreamSettings> {
    let tables = r.tables("stream");
    r.check("stream", !tables.is_empty(), "at least one [[stream]] is needed");
    let streams: Vec<StreamSettings> =
        tables.into_iter().enumerate().map(|(i, table)| read_one(r, i, table)).collect();
    let mut seen = BTreeSet::new();
    for name in streams.iter().map(|stream| &stream.name) {
        r.check("stream", seen.insert(name), &format!("name {name:?} is used twice"));
    }
    streams
}

fn read_one(reader: &mut Reader, index: usize, table: BTreeMap<String, Value>) -> StreamSettings {
    let mut entry = Entry { reader, list: "stream", place: format!("[{index}]"), table };
    let name = entry.label("name");
    let group = if entry.has("group") { entry.label("group") } else { MAIN.to_owned() };
    let collection = entry.word("collection");
    let target = entry.identifier("table");
    let post_image = read_post_image(&mut entry);
    let expect = entry.optional("expect_changes_within").filter(|text| !text.is_empty());
    let expect_changes_within = expect.and_then(|text| match parse_duration(&text) {
        Ok(duration) => Some(duration),
        Err(message) => {
            entry.problem("expect_changes_within", &message);
            None
        }
    });
    let columns = read_columns(&mut entry, &name);
    entry.finish(&STREAM_KEYS);
    let table = target;
    StreamSettings { name, group, collection, table, post_image, expect_changes_within, columns }
}

fn read_post_image(entry: &mut Entry<'_>) -> PostImage {
    let mode = entry.optional("post_image").unwrap_or_else(|| "lookup".to_owned());
    let known = PostImage::NAMES.iter().find(|(known, _)| *known == mode).map(|(_, value)| *value);
    if known.is_none() {
        entry.problem("post_image", "must be one of \"lookup\", \"when_available\", \"required\"");
    }
    known.unwrap_or(PostImage::Lookup)
}

fn read_columns(entry: &mut Entry<'_>, stream: &str) -> Vec<Column> {
    let Some(value) = entry.table.remove("column") else { return Vec::new() };
    let Ok(elements) = value.into_array() else {
        entry.problem("column", "must be a list of tables: [[stream.column]]");
        return Vec::new();
    };
    let mut columns = Vec::with_capacity(elements.len());
    let mut seen: BTreeSet<String> = RESERVED.iter().map(|&name| name.to_owned()).collect();
    for (index, element) in elements.into_iter().enumerate() {
        let table = element.into_table().map(|t| t.into_iter().collect()).unwrap_or_default();
        let place = format!("[{stream}].column[{index}]");
        let mut entry = Entry { reader: &mut *entry.reader, list: entry.list, place, table };
        let column = read_column(&mut entry);
        if !seen.insert(column.name.clone()) {
            entry.problem(
                "name",
                &format!(
                    "{:?} is used twice or is one of id, doc, _cluster_time, _applied_at, _hash",
                    column.name
                ),
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
    Column { name, paths, kind: kind.unwrap_or(ColumnType::Text), required }
}

fn path(dotted: &str) -> Vec<Box<str>> {
    dotted.split('.').map(Into::into).collect()
}
