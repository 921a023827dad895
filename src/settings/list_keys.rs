//! The keys of `[[group]]`, `[[stream]]` and what is in it, for the JSON Schema: one line
//! each. A test holds them against what is read; a key of a section needs none, since the reader
//! notes its shape and `config/default.toml` its meaning.

use std::borrow::Cow;

use super::key_shape::{ListKey, Shape};
use super::stream::PostImage;
use crate::model::on_delete::OnDelete;
use crate::model::value::ColumnType;

pub(super) const GROUP: &[ListKey] = &[
    must("name", LABEL, "the group that this says something of"),
    may("database", Shape::Word, "null", "the source's database it follows: source.database"),
    may("schema", Shape::Name, "null", "where its tables live: target.schema"),
];

pub(super) const STREAM: &[ListKey] = &[
    must("name", LABEL, "what it is called in commands, metrics and alerts"),
    may(
        "group",
        LABEL,
        "\"main\"",
        "streams of a group share one change stream, lease, position and transaction",
    ),
    must("collection", Shape::Word, "the collection that is followed"),
    may("include", Shape::Texts, "[]", "fields that are read at all, as dotted paths; [] = all"),
    may("exclude", Shape::Texts, "[]", "fields that are never read: they reach nothing"),
    may(
        "filter",
        Shape::Text,
        "\"\"",
        "which documents are followed, as Extended JSON: equality, $in, ranges, $exists, $and",
    ),
    must("table", Shape::Name, "the table that is kept equal to it"),
    may(
        "post_image",
        Shape::OneOf(Cow::Borrowed(&POST_IMAGES)),
        "\"lookup\"",
        "where an update's document comes from; the last two need pre- and post-images",
    ),
    may(
        "expect_changes_within",
        Shape::OptionalDuration,
        "\"\"",
        "silence longer than this opens an incident; \"\" = never",
    ),
    may(
        "on_delete",
        Shape::OneOf(Cow::Borrowed(&ON_DELETE)),
        "\"delete\"",
        "what becomes of the row of a deleted document: mark keeps it, with _deleted_at",
    ),
    may("history", Shape::Boolean, "false", "whether every version is kept, in TABLE_history"),
    may("doc", Shape::Boolean, "true", "whether the whole document is kept, as jsonb"),
    may("column", Shape::Tables(COLUMN), "[]", "typed columns beside id and doc"),
    may("child", Shape::Tables(CHILD), "[]", "arrays of documents, each in a table of its own"),
];

const CHILD: &[ListKey] = &[
    must("table", Shape::Name, "the table of the array's elements, by parent_id and position"),
    must("field", Shape::Word, "the array in the document, as a dotted path"),
    must("column", Shape::Tables(COLUMN), "typed columns; their fields are an element's"),
];

pub(super) const MAINTENANCE: &[ListKey] = &[
    must("name", LABEL, "what the window is called"),
    may(
        "days",
        Shape::Texts,
        "[]",
        "on which days of the week it begins, such as \"Sat\"; [] = each",
    ),
    must("from", Shape::Word, "when it begins: a time of a day in UTC, such as 22:30, or a time"),
    must("until", Shape::Word, "when it ends: of the same kind"),
    may("codes", Shape::Texts, "[]", "the incidents that are not told meanwhile; [] = all"),
];

pub(super) const COLUMN: &[ListKey] = &[
    must("name", Shape::Name, "the column of the table"),
    must("field", Shape::Word, "the field of the document, as a dotted path"),
    must("type", Shape::OneOf(Cow::Borrowed(&TYPES)), "the column's type in Postgres"),
    may(
        "required",
        Shape::Boolean,
        "false",
        "a document without it is reported as drift, never dropped",
    ),
    may("aliases", Shape::Texts, "[]", "other paths that mean the same, tried in order"),
    may(
        "mask",
        Shape::Matching("^(|null|hash|first_[1-9][0-9]*)$"),
        "\"\"",
        "what is stored instead of the value, wherever it stands",
    ),
    may("zone", Shape::Text, "\"\"", "whose days a date holds, such as Europe/London; UTC's else"),
];

/// What metrics and commands can hold.
const LABEL: Shape = Shape::Matching("^[A-Za-z0-9_-]+$");

const ON_DELETE: [&str; 2] = [OnDelete::Delete.name(), OnDelete::Mark.name()];
const POST_IMAGES: [&str; PostImage::NAMES.len()] = first_of_each(PostImage::NAMES);
const TYPES: [&str; ColumnType::NAMES.len()] = first_of_each(ColumnType::NAMES);

/// A key that must be given.
const fn must(name: &'static str, shape: Shape, means: &'static str) -> ListKey {
    ListKey { name, shape, default: None, means }
}

/// A key that may be left out; then it is this, in JSON.
const fn may(
    name: &'static str,
    shape: Shape,
    default: &'static str,
    means: &'static str,
) -> ListKey {
    ListKey { name, shape, default: Some(default), means }
}

#[expect(clippy::indexing_slicing, reason = "both are of the same length")]
const fn first_of_each<T: Copy, const N: usize>(
    pairs: [(&'static str, T); N],
) -> [&'static str; N] {
    let mut names = [""; N];
    let mut place = 0;
    while place < N {
        names[place] = pairs[place].0;
        place += 1;
    }
    names
}
