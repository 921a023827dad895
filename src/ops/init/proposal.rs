//! What is proposed for a collection: a stream, its table, and its columns.

use serde::Serialize;

use super::fields::{Family, Field, Fields};
use super::infer::{column_type, is_data, is_nested, zone};
use super::naming::{Names, snake};
use super::sensitive;
use crate::model::format::percent;
use crate::model::value::{ColumnType, Zone};

/// More columns than these are not proposed for one table.
pub const COLUMNS_MAX: usize = 60;

/// Of fewer documents nobody can tell that every one has a field.
const REQUIRED_DOCUMENTS_MIN: u64 = 20;

/// What frameworks write for themselves: Spring Data's, Mongoose's, Meteor's.
const BOOKKEEPING: [&str; 3] = ["_class", "__v", "__t"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamProposal {
    pub name: String,
    pub collection: String,
    pub table: String,
    /// By the collection's metadata.
    pub documents: u64,
    pub bytes: u64,
    /// How many documents were looked at.
    pub sampled: u64,
    pub columns: Vec<ColumnProposal>,
    /// What has no column, and why; one clause each.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnProposal {
    pub name: String,
    pub field: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Of a date's days, where they are not UTC's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<&'static str>,
    pub required: bool,
    /// In how many of the documents looked at it has a value.
    pub present: u64,
    /// How many of these values the column takes.
    pub fitting: u64,
    /// What a person should know; one clause each.
    pub notes: Vec<String>,
}

/// A field that could have a column, with its place among all.
struct Candidate<'a> {
    path: Vec<&'a str>,
    field: &'a Field,
}

/// Why fields have no column.
#[derive(Default)]
struct Left {
    unnamed: bool,
    bookkeeping: Vec<&'static str>,
    never_set: usize,
    data: usize,
}

/// The columns for what was seen, and notes on what has none.
pub fn propose(fields: &Fields) -> (Vec<ColumnProposal>, Vec<String>) {
    let mut left = Left { unnamed: fields.root.unnamed, ..Left::default() };
    let mut candidates = Vec::new();
    collect(&fields.root, &[], &mut candidates, &mut left);
    let found = candidates.len();
    let kept = most_frequent(candidates);
    let mut names = Names::of_columns();
    let columns = kept.iter().map(|one| column(one, fields.documents, &mut names)).collect();
    (columns, notes(fields, &left, found))
}

fn collect<'a>(
    parent: &'a Field,
    path: &[&'a str],
    candidates: &mut Vec<Candidate<'a>>,
    left: &mut Left,
) {
    for (name, field) in &parent.children {
        let path = [path, &[&**name]].concat();
        let is_id = path == ["_id"];
        if let ([only], Some(known)) =
            (path.as_slice(), BOOKKEEPING.iter().find(|known| **known == &**name))
            && only == known
        {
            left.bookkeeping.push(known);
        } else if is_data(name) {
            left.data += 1;
        } else if is_nested(field) {
            collect(field, &path, candidates, left);
        } else if is_id {
            // It is the column `id` already.
        } else if field.present == 0 || field.is_only(&[Family::EmptyArray]) {
            left.never_set += 1;
        } else {
            candidates.push(Candidate { path, field });
        }
    }
}

/// As many as there may be, those in most documents, in the order of the documents.
fn most_frequent(candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    let mut placed: Vec<(usize, Candidate<'_>)> = candidates.into_iter().enumerate().collect();
    placed.sort_by_key(|(_, candidate)| std::cmp::Reverse(candidate.field.present));
    placed.truncate(COLUMNS_MAX);
    placed.sort_by_key(|(place, _)| *place);
    placed.into_iter().map(|(_, candidate)| candidate).collect()
}

fn column(candidate: &Candidate<'_>, documents: u64, names: &mut Names) -> ColumnProposal {
    let Candidate { path, field } = candidate;
    let (kind, why) = column_type(field);
    let parts: Vec<String> = path.iter().map(|part| snake(part, "field")).collect();
    let fitting = field.fitting(kind);
    let mut notes = Vec::new();
    if fitting < field.present {
        notes.push(format!("! takes {} of its values", percent(fitting, field.present)));
    }
    notes.extend(why);
    let is_text = kind == ColumnType::Text && field.is_only(&[Family::Text]);
    if let Some(choices) = field.choices().filter(|_| is_text) {
        let plural = if choices == 1 { "" } else { "s" };
        notes.push(format!("{choices} distinct value{plural}"));
    }
    notes.extend(sensitive::warning(path).map(str::to_owned));
    let everywhere = field.present + field.nulls == documents;
    ColumnProposal {
        name: names.give(&parts.join("_"), "field"),
        field: path.join("."),
        kind: name_of(kind),
        zone: zone(field).filter(|_| kind == ColumnType::Date).map(Zone::name),
        required: everywhere && documents >= REQUIRED_DOCUMENTS_MIN,
        present: field.present,
        fitting,
        notes,
    }
}

fn name_of(kind: ColumnType) -> &'static str {
    ColumnType::NAMES.iter().find(|(_, known)| *known == kind).map_or("jsonb", |(name, _)| name)
}

fn notes(fields: &Fields, left: &Left, found: usize) -> Vec<String> {
    let mut notes = Vec::new();
    if fields.documents == 0 {
        notes.push("it has no documents yet: when it has, propose columns anew".to_owned());
    }
    if found > COLUMNS_MAX {
        let more = found - COLUMNS_MAX;
        notes.push(format!("the {COLUMNS_MAX} fields in most documents; {more} more stay in doc"));
    }
    if fields.is_over {
        notes.push("it has more fields than can be told apart".to_owned());
    }
    if left.never_set > 0 {
        let number = left.never_set;
        notes.push(format!("{number} never more than null or empty in the sample: in doc"));
    }
    if left.data > 0 {
        notes.push(format!("{} with keys that read like data stay in doc", left.data));
    }
    if left.unnamed {
        notes.push("fields whose key is empty or has a dot stay in doc".to_owned());
    }
    if !left.bookkeeping.is_empty() {
        let names = left.bookkeeping.join(", ");
        notes.push(format!("{names} is a framework's own and stays in doc"));
    }
    notes
}
