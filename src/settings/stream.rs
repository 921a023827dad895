//! `[[stream]]`: what is followed, and how its documents become columns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::{Value, ValueKind};

use super::values::{Reader, parse_duration, unknown_key};
use crate::model::value::ColumnType;

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

const STREAM_KEYS: [&str; 6] =
    ["name", "collection", "table", "post_image", "expect_changes_within", "column"];
const COLUMN_KEYS: [&str; 5] = ["name", "field", "type", "required", "aliases"];
const RESERVED: [&str; 5] = ["id", "doc", "_cluster_time", "_applied_at", "_hash"];

pub(super) fn read(r: &mut Reader) -> Vec<StreamSettings> {
    let tables = r.tables("stream");
    r.check("stream", !tables.is_empty(), "at least one [[stream]] is needed");
    let streams: Vec<StreamSettings> =
        tables.into_iter().enumerate().map(|(i, table)| read_one(r, i, table)).collect();
    for (what, values) in [
        ("name", streams.iter().map(|s| &s.name).collect::<Vec<_>>()),
        ("table", streams.iter().map(|s| &s.table).collect()),
    ] {
        let mut seen = BTreeSet::new();
        for value in values {
            r.check("stream", seen.insert(value), &format!("{what} {value:?} is used twice"));
        }
    }
    streams
}

/// One table of a list, read key by key; what is left is unknown.
struct Entry<'r> {
    reader: &'r mut Reader,
    place: String,
    table: BTreeMap<String, Value>,
}

impl Entry<'_> {
    fn problem(&mut self, key: &str, message: &str) {
        let place = &self.place;
        self.reader.problem("stream", format!("{place}.{key} {message}"));
    }

    fn optional(&mut self, key: &str) -> Option<String> {
        if let ValueKind::String(text) = self.table.remove(key)?.kind {
            return Some(text);
        }
        self.problem(key, "must be text in quotes");
        None
    }

    fn word(&mut self, key: &str) -> String {
        let text = self.optional(key).unwrap_or_default();
        if text.trim().is_empty() {
            self.problem(key, "must be given");
        }
        text
    }

    /// A name Postgres will keep as it is.
    fn identifier(&mut self, key: &str) -> String {
        let text = self.word(key);
        if text.len() > 63 {
            self.problem(key, "must be at most 63 bytes long, the limit of a name in Postgres");
        }
        text
    }

    fn finish(mut self, known: &[&str]) {
        let left: Vec<String> = std::mem::take(&mut self.table).into_keys().collect();
        for key in left {
            let message = unknown_key(&key, known.iter().copied());
            self.problem(&key, &message);
        }
    }
}

fn read_one(reader: &mut Reader, index: usize, table: BTreeMap<String, Value>) -> StreamSettings {
    let mut entry = Entry { reader, place: format!("[{index}]"), table };
    let name = entry.word("name");
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
        entry.problem(
            "name",
            "must be letters, digits, - and _ only: it is a label in metrics and commands",
        );
    }
    let collection = entry.word("collection");
    let target = entry.identifier("table");
    let mode = entry.optional("post_image").unwrap_or_else(|| "lookup".to_owned());
    let post_image =
        PostImage::NAMES.iter().find(|(known, _)| *known == mode).map(|(_, value)| *value);
    if post_image.is_none() {
        entry.problem("post_image", "must be one of \"lookup\", \"when_available\", \"required\"");
    }
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
    let post_image = post_image.unwrap_or(PostImage::Lookup);
    StreamSettings { name, collection, table: target, post_image, expect_changes_within, columns }
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
        let mut entry = Entry { reader: &mut *entry.reader, place, table };
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
