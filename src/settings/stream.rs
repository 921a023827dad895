//! `[[stream]]`: what is followed, and how its documents become columns.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use config::Value;

use super::child::{Child, read_children};
use super::columns::{Column, RESERVED, read_columns};
use super::entry::{Entry, is_label};
use super::keeping::{self, Keeping};
use super::row_spec::RowSpec;
use super::selection;
use super::values::{Reader, parse_duration};
use crate::model::filter::Filter;
use crate::model::namespace::HISTORY;
#[cfg(test)]
use crate::model::redaction::Hidden;
use crate::model::redaction::{MaskKey, Redaction};

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
    /// Which of its documents are followed; all, if there is none.
    pub filter: Option<Filter>,
    pub expect_changes_within: Option<Duration>,
    pub keeping: Keeping,
    pub columns: Vec<Column>,
    /// Arrays that are kept in tables of their own.
    pub children: Vec<Child>,
    /// What it leaves out of documents, and hides in them.
    pub redaction: Redaction,
}

impl StreamSettings {
    /// What its rows hold.
    pub fn rows(&self) -> RowSpec<'_> {
        RowSpec { columns: &self.columns, keeping: self.keeping, children: &self.children }
    }

    /// All columns that are told of: after its own, each array, called as its table, and the
    /// array's columns.
    pub fn columns_told(&self) -> Vec<Column> {
        let of_children = self
            .children
            .iter()
            .flat_map(|child| [child.as_column()].into_iter().chain(child.columns_from_root()));
        self.columns.iter().cloned().chain(of_children).collect()
    }
}

#[cfg(test)]
impl StreamSettings {
    /// One with these columns that asks for nothing else.
    pub fn of_columns(columns: Vec<Column>) -> Self {
        Self {
            name: "s".to_owned(),
            group: MAIN.to_owned(),
            collection: "s".to_owned(),
            table: "s".to_owned(),
            post_image: PostImage::Lookup,
            filter: None,
            expect_changes_within: None,
            keeping: Keeping::default(),
            columns,
            children: Vec::new(),
            redaction: Redaction::new(&Hidden::default(), None),
        }
    }
}

const STREAM_KEYS: [&str; 14] = [
    "name",
    "group",
    "collection",
    "include",
    "exclude",
    "filter",
    "table",
    "post_image",
    "expect_changes_within",
    "on_delete",
    "history",
    "doc",
    "column",
    "child",
];

pub(super) fn read(r: &mut Reader, mask_key: Option<&MaskKey>) -> Vec<StreamSettings> {
    let tables = r.tables("stream");
    r.check("stream", !tables.is_empty(), "at least one [[stream]] is needed");
    let streams: Vec<StreamSettings> = tables
        .into_iter()
        .enumerate()
        .map(|(index, table)| read_one(r, index, table, mask_key))
        .collect();
    let mut seen = BTreeSet::new();
    for name in streams.iter().map(|stream| &stream.name) {
        r.check("stream", seen.insert(name), &format!("name {name:?} is used twice"));
    }
    streams
}

fn read_one(
    reader: &mut Reader,
    index: usize,
    table: BTreeMap<String, Value>,
    mask_key: Option<&MaskKey>,
) -> StreamSettings {
    let mut entry = Entry { reader, list: "stream", place: format!("[{index}]"), table };
    let name = entry.label("name");
    // What is said of it names it, as what is said of its columns does.
    if !name.is_empty() && is_label(&name) {
        entry.place = format!("[{name}]");
    }
    let group = if entry.has("group") { entry.label("group") } else { MAIN.to_owned() };
    let collection = entry.word("collection");
    let target = entry.identifier("table");
    let post_image = read_post_image(&mut entry);
    let filter = read_filter(&mut entry);
    let expect = entry.optional("expect_changes_within").filter(|text| !text.is_empty());
    let expect_changes_within = expect.and_then(|text| match parse_duration(&text) {
        Ok(duration) => Some(duration),
        Err(message) => {
            entry.problem("expect_changes_within", &message);
            None
        }
    });
    let keeping = keeping::read(&mut entry);
    let columns = read_columns(&mut entry, &format!("[{name}]"), &RESERVED);
    let children = read_children(&mut entry, &name);
    if keeping.history && target.len() + HISTORY.len() > 63 {
        let message =
            format!("is too long for a history: {HISTORY} is put at its end, of 63 bytes");
        entry.problem("table", &message);
    }
    if columns.is_empty() && !keeping.doc {
        entry.problem("doc", "must be true where no [[stream.column]] is given");
    }
    if keeping.history && !keeping.doc && !children.is_empty() {
        let message = "needs doc = true beside [[stream.child]]: of an array, versions keep what \
                       stands in doc";
        entry.problem("history", message);
    }
    let redaction = selection::read(&mut entry, &columns, &children, mask_key);
    entry.finish(&STREAM_KEYS);
    StreamSettings {
        name,
        group,
        collection,
        table: target,
        post_image,
        filter,
        expect_changes_within,
        keeping,
        columns,
        children,
        redaction,
    }
}

fn read_filter(entry: &mut Entry<'_>) -> Option<Filter> {
    let text = entry.optional("filter").filter(|text| !text.trim().is_empty())?;
    Filter::parse(&text).unwrap_or_else(|wrong| {
        entry.problem("filter", &format!("is refused: {wrong}"));
        None
    })
}

fn read_post_image(entry: &mut Entry<'_>) -> PostImage {
    let mode = entry.optional("post_image").unwrap_or_else(|| "lookup".to_owned());
    let known = PostImage::NAMES.iter().find(|(known, _)| *known == mode).map(|(_, value)| *value);
    if known.is_none() {
        entry.problem("post_image", "must be one of \"lookup\", \"when_available\", \"required\"");
    }
    known.unwrap_or(PostImage::Lookup)
}
