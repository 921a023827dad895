//! `[[stream.child]]`: arrays of documents, each kept in a table of its own beside the stream's.

use config::Value;

use super::columns::{Column, path, read_columns};
use super::entry::Entry;
use crate::model::value::ColumnType;

/// An array whose elements become rows of another table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    pub table: String,
    /// The array's path in the document.
    pub path: Vec<Box<str>>,
    /// Their paths begin in an element.
    pub columns: Vec<Column>,
}

impl Child {
    /// The array's field, as configured.
    pub fn field(&self) -> String {
        self.path.join(".")
    }

    /// The array as a column that reads it would be.
    pub fn as_column(&self) -> Column {
        Column {
            name: self.table.clone(),
            paths: vec![self.path.clone()],
            kind: ColumnType::Jsonb,
            required: false,
            mask: None,
            zone: None,
        }
    }

    /// Its columns as they are told apart from the stream's own: with the table's name before
    /// theirs, and with paths from the document's root.
    pub fn columns_from_root(&self) -> impl Iterator<Item = Column> {
        self.columns.iter().map(|column| {
            let from_root = |path: &Vec<Box<str>>| self.path.iter().chain(path).cloned().collect();
            Column {
                name: format!("{}.{}", self.table, column.name),
                paths: column.paths.iter().map(from_root).collect(),
                ..column.clone()
            }
        })
    }
}

const CHILD_KEYS: [&str; 3] = ["table", "field", "column"];

/// The columns of every such table beside the configured ones.
const RESERVED: [&str; 2] = ["parent_id", "position"];

pub(super) fn read_children(entry: &mut Entry<'_>, stream: &str) -> Vec<Child> {
    let Some(value) = entry.table.remove("child") else { return Vec::new() };
    let Ok(elements) = value.into_array() else {
        entry.problem("child", "must be a list of tables: [[stream.child]]");
        return Vec::new();
    };
    let read = |(index, element): (usize, Value)| {
        let table = element.into_table().map(|t| t.into_iter().collect()).unwrap_or_default();
        let place = format!("[{stream}].child[{index}]");
        let mut entry = Entry { reader: &mut *entry.reader, list: entry.list, place, table };
        let child = read_child(&mut entry);
        entry.finish(&CHILD_KEYS);
        child
    };
    elements.into_iter().enumerate().map(read).collect()
}

fn read_child(entry: &mut Entry<'_>) -> Child {
    let (table, field) = (entry.identifier("table"), entry.word("field"));
    let place = entry.place.clone();
    let columns = read_columns(entry, &place, &RESERVED);
    if columns.is_empty() {
        entry.problem("column", "must be given: what is read of each element of the array");
    }
    if field.split('.').next() == Some("_id") {
        entry.problem("field", "leads into _id, which no array is");
    }
    Child { table, path: path(&field), columns }
}
