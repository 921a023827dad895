//! What is proposed for a collection: a stream, its table, its columns, and the tables of its
//! arrays.

use serde::Serialize;

use super::fields::{ArrayElements, Family, Field, Fields};
use super::infer::{arrays, column_type, elements, is_data, is_ever_set, is_nested, zone};
use super::naming::{Names, snake};
use super::sensitive;
use super::uncovered::{Rest, Uncovered};
use crate::model::format::percent;
use crate::model::value::{ColumnType, Zone};

/// More columns than these are not proposed for one table.
pub const COLUMNS_MAX: usize = 60;

/// The same where nothing but columns keeps what was seen: as many as one row of Postgres has room
/// for, be they all texts that lie outside of it.
pub const COLUMNS_ALONE_MAX: usize = 400;

/// Of fewer documents nobody can tell that every one has a field.
const REQUIRED_DOCUMENTS_MIN: u64 = 20;

/// What frameworks write for themselves: Spring Data's, Mongoose's, Meteor's.
const BOOKKEEPING: [&str; 3] = ["_class", "__v", "__t"];

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wishes {
    /// Tables of arrays' elements.
    pub children: bool,
    /// Whole documents beside the columns.
    pub doc: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamProposal {
    pub name: String,
    pub collection: String,
    pub table: String,
    /// Whether whole documents are kept beside the columns.
    pub doc: bool,
    /// By the collection's metadata.
    pub documents: u64,
    pub bytes: u64,
    /// How many documents were looked at.
    pub sampled: u64,
    pub columns: Vec<ColumnProposal>,
    pub children: Vec<ChildProposal>,
    /// What has no column, and why; one clause each.
    pub notes: Vec<String>,
}

/// A table of an array's elements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChildProposal {
    pub table: String,
    pub field: String,
    /// In how many of the documents looked at the field has a value.
    pub present: u64,
    /// How many of these values are arrays.
    pub fitting: u64,
    /// How many elements they have, but for nulls.
    pub elements: u64,
    /// How many of these are documents.
    pub documents: u64,
    /// `present` and `required` are counted over elements that are documents.
    pub columns: Vec<ColumnProposal>,
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

/// What is proposed for what was seen.
#[derive(Debug)]
pub struct Proposed {
    pub doc: bool,
    pub columns: Vec<ColumnProposal>,
    /// Their tables are still without the stream's name before theirs.
    pub children: Vec<ChildProposal>,
    pub notes: Vec<String>,
}

/// The columns for what was seen, the tables of its arrays, and notes on what has none.
pub fn propose(fields: &Fields, wishes: Wishes) -> Proposed {
    let rows = Rows { fields, root: &fields.root, array: &[], wishes };
    let gathered = rows.gather();
    if gathered.candidates.is_empty() && !wishes.doc {
        let mut proposed = propose(fields, Wishes { doc: true, ..wishes });
        proposed.notes.push("doc = false needs a column: doc stays".to_owned());
        return proposed;
    }
    let rest = if wishes.doc { Rest::Doc } else { Rest::Nothing };
    let columns = rows.columns(&gathered.candidates);
    let mut notes = gathered.uncovered.notes(rest, "documents", columns.len());
    if fields.documents == 0 {
        notes.insert(0, "it has no documents yet: when it has, propose columns anew".to_owned());
    }
    Proposed { doc: wishes.doc, columns, children: gathered.children, notes }
}

/// What becomes rows: the documents of a collection, or those in the arrays of one field.
#[derive(Debug, Clone, Copy)]
struct Rows<'a> {
    fields: &'a Fields,
    root: &'a Field,
    /// The path of the arrays, empty for a collection's documents.
    array: &'a [&'a str],
    wishes: Wishes,
}

/// A field that could have a column, with its place among all.
struct Candidate<'a> {
    path: Vec<&'a str>,
    field: &'a Field,
    /// What is to be said of it besides.
    note: Option<&'static str>,
}

/// What a walk through the fields finds.
#[derive(Default)]
struct Gathered<'a> {
    candidates: Vec<Candidate<'a>>,
    children: Vec<ChildProposal>,
    uncovered: Uncovered,
}

impl<'a> Rows<'a> {
    /// Of so many fields that not all can have columns, documents are left whole where nothing
    /// else would keep the rest.
    fn gather(self) -> Gathered<'a> {
        let of = |are_flat: bool| {
            let mut gathered = Gathered::default();
            self.collect(self.root, &[], are_flat, &mut gathered);
            gathered
        };
        let mut gathered = of(true);
        let max = if self.wishes.doc { COLUMNS_MAX } else { COLUMNS_ALONE_MAX };
        if gathered.candidates.len() > max && !self.wishes.doc {
            gathered = of(false);
        }
        gathered.keep_most_frequent(max);
        let known =
            if self.is_of_array() { self.fields.known_in_arrays } else { self.fields.known };
        gathered.uncovered.unnamed = self.root.unnamed;
        gathered.uncovered.is_over = known.is_over;
        gathered
    }

    const fn is_of_array(self) -> bool {
        !self.array.is_empty()
    }

    fn collect(self, parent: &'a Field, path: &[&'a str], are_flat: bool, into: &mut Gathered<'a>) {
        for (name, field) in &parent.children {
            let path = [path, &[&**name]].concat();
            let is_id = path == ["_id"] && !self.is_of_array();
            let known = BOOKKEEPING.iter().find(|known| path == [**known]);
            if let Some(known) = known.filter(|_| self.wishes.doc) {
                into.uncovered.bookkeeping.push(known);
            } else if is_data(name) {
                into.uncovered.data += 1;
            } else if are_flat && is_nested(field) {
                self.collect(field, &path, are_flat, into);
            } else if is_id {
                // It is the column `id` already.
            } else if !is_ever_set(field) && self.wishes.doc {
                into.uncovered.never_set += 1;
            } else {
                self.collect_value(Candidate { path, field, note: None }, into);
            }
        }
    }

    fn collect_value(self, mut candidate: Candidate<'a>, into: &mut Gathered<'a>) {
        if let Some((child, is_whole)) = self.child(&candidate) {
            if self.wishes.children {
                into.children.push(child);
                if is_whole || self.wishes.doc {
                    return;
                }
                candidate.note = Some("keeps what their table does not take");
            } else {
                candidate.note = Some("--children makes a table of them");
            }
        }
        into.candidates.push(candidate);
    }

    /// The table of a field's arrays, if they are documents, and whether it takes all of them.
    fn child(self, candidate: &Candidate<'a>) -> Option<(ChildProposal, bool)> {
        let Candidate { path, field, .. } = candidate;
        let elements = elements(field).filter(|_| path.first() != Some(&"_id"))?;
        let ArrayElements { number, documents } = elements;
        let rows = Rows { root: documents, array: path, ..self };
        let gathered = rows.gather();
        let columns = rows.columns(&gathered.candidates);
        if columns.is_empty() {
            return None;
        }
        let (present, fitting) = (field.present, arrays(field));
        let mut notes = Vec::new();
        if fitting < present {
            let share = percent(fitting, present);
            notes.push(format!("! takes {share} of its values: the others are no arrays"));
        }
        if documents.present < *number {
            let share = percent(documents.present, *number);
            notes.push(format!("! {share} of its elements are documents: others are empty rows"));
        }
        let rest = if self.wishes.doc { Rest::Doc } else { Rest::ArrayColumn };
        let is_whole = notes.is_empty() && gathered.uncovered.is_nothing();
        notes.extend(gathered.uncovered.notes(rest, "elements", columns.len()));
        let parts: Vec<String> = path.iter().map(|part| snake(part, "field")).collect();
        let child = ChildProposal {
            table: parts.join("_"),
            field: path.join("."),
            present,
            fitting,
            elements: *number,
            documents: documents.present,
            columns,
            notes,
        };
        Some((child, is_whole))
    }

    fn columns(self, candidates: &[Candidate<'_>]) -> Vec<ColumnProposal> {
        let mut names =
            if self.is_of_array() { Names::of_element_columns() } else { Names::of_columns() };
        candidates.iter().map(|candidate| self.column(candidate, &mut names)).collect()
    }

    fn column(self, candidate: &Candidate<'_>, names: &mut Names) -> ColumnProposal {
        let Candidate { path, field, note } = candidate;
        let (kind, why) = column_type(field, !self.wishes.doc);
        let parts: Vec<String> = path.iter().map(|part| snake(part, "field")).collect();
        let fitting = field.fitting(kind);
        let mut notes = Vec::new();
        if fitting < field.present {
            notes.push(format!("! takes {} of its values", percent(fitting, field.present)));
        }
        notes.extend(why);
        notes.extend(note.map(str::to_owned));
        let is_text = kind == ColumnType::Text && field.is_only(&[Family::Text]);
        if let Some(choices) = field.choices().filter(|_| is_text) {
            let plural = if choices == 1 { "" } else { "s" };
            notes.push(format!("{choices} distinct value{plural}"));
        }
        notes.extend(sensitive::warning(&[self.array, path].concat()).map(str::to_owned));
        let everywhere = field.present + field.nulls == self.root.present;
        ColumnProposal {
            name: names.give(&parts.join("_"), "field"),
            field: path.join("."),
            kind: name_of(kind),
            zone: zone(field).filter(|_| kind == ColumnType::Date).map(Zone::name),
            required: everywhere && self.root.present >= REQUIRED_DOCUMENTS_MIN,
            present: field.present,
            fitting,
            notes,
        }
    }
}

impl Gathered<'_> {
    /// As many as there may be, those in most documents, in the order of the documents.
    fn keep_most_frequent(&mut self, max: usize) {
        let mut placed: Vec<_> = self.candidates.drain(..).enumerate().collect();
        placed.sort_by_key(|(_, candidate)| std::cmp::Reverse(candidate.field.present));
        let mut beyond = placed.split_off(max.min(placed.len()));
        for candidates in [&mut placed, &mut beyond] {
            candidates.sort_by_key(|(place, _)| *place);
        }
        self.candidates = placed.into_iter().map(|(_, candidate)| candidate).collect();
        self.uncovered.beyond =
            beyond.into_iter().map(|(_, candidate)| candidate.path.join(".")).collect();
    }
}

fn name_of(kind: ColumnType) -> &'static str {
    ColumnType::NAMES.iter().find(|(_, known)| *known == kind).map_or("jsonb", |(name, _)| name)
}
