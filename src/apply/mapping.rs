//! From a document to a row: the configured columns, the whole document, its time.

mod child_cells;
mod column_read;
mod seed;

use std::borrow::Cow;

use twox_hash::XxHash3_64;

use super::digest::digest;
use super::drift::{Drift, unfit};
use super::rows::Rows;
use super::shape::{Field, Shape, Shapes};
use crate::failpoint;
use crate::model::bson::{Doc, Value, kind};
use crate::model::drift_kind::DriftKind;
use crate::model::filter::Filter;
use crate::model::mapping_digest::MappingDigest;
use crate::model::position::ClusterTime;
use crate::model::redaction::{Evidence, Redaction};
use crate::model::value::{
    Bound, ColumnType, Encoded, Fit, Unwritable, Zone, encode_column, encode_day, encode_value,
    find,
};
use crate::settings::{Child, Column, Keeping, RowLimits, RowSpec, StreamSettings};

pub use column_read::ColumnRead;
use seed::seed;

/// How documents of one stream become rows.
#[derive(Debug, Clone)]
pub struct Mapping {
    columns: Vec<Column>,
    /// Arrays that are kept in tables of their own.
    children: Vec<Child>,
    /// How many columns drift is told of: arrays, and their columns, after the own ones.
    told: usize,
    /// Top-level field names that columns or arrays begin at, each once; a slot is an index into
    /// this.
    heads: Vec<Box<str>>,
    /// For each column, for each of its paths: the slot of its head.
    slots: Vec<Vec<usize>>,
    /// What documents go through first: nothing here sees what it hides.
    redaction: Redaction,
    /// What documents' hashes are seeded with: how they become rows.
    seed: u64,
    /// Of the documents, those that become rows; all, if there is none.
    filter: Option<Filter>,
    digest: MappingDigest,
    limits: RowLimits,
    keeping: Keeping,
}

/// What documents, or elements, that were looked at hold for one column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sampled {
    /// Those that have a value for it.
    pub present: u64,
    /// Values that do not fit its type.
    pub unfit: u64,
    /// Dates at which no day begins, in the column's zone.
    pub amid_days: u64,
}

impl Sampled {
    /// Of one value for a column.
    fn of(value: Option<Value<'_>>, column: &Column, bound: Bound) -> Self {
        let fit = encode(value, column, bound, &mut Vec::new());
        let at = value.and_then(|value| value.as_date());
        let is_amid = at.is_some_and(|at| !Zone::begins_a_day(column.zone, at));
        Self {
            present: u64::from(fit != Fit::Null),
            unfit: u64::from(fit == Fit::Drift),
            amid_days: u64::from(is_amid && fit == Fit::Value),
        }
    }

    const fn add(&mut self, other: Self) {
        self.present += other.present;
        self.unfit += other.unfit;
        self.amid_days += other.amid_days;
    }
}

impl Mapping {
    pub fn new(stream: &StreamSettings, limits: RowLimits) -> Self {
        let StreamSettings { columns, children, redaction, .. } = stream;
        let mut heads: Vec<Box<str>> = Vec::new();
        let mut slot = |path: &Vec<Box<str>>| {
            let head = path.first().cloned().unwrap_or_default();
            heads.iter().position(|known| *known == head).unwrap_or_else(|| {
                heads.push(head);
                heads.len() - 1
            })
        };
        let slots =
            columns.iter().map(|column| column.paths.iter().map(&mut slot).collect()).collect();
        for child in children {
            let _ = slot(&child.path);
        }
        let keeping = stream.keeping;
        let seed = seed(stream);
        let (digest, filter) = (digest(stream), stream.filter.clone());
        let told = stream.columns_told().len();
        let (columns, children) = (columns.clone(), children.clone());
        let redaction = redaction.clone();
        Self {
            columns,
            children,
            told,
            heads,
            slots,
            redaction,
            seed,
            filter,
            digest,
            limits,
            keeping,
        }
    }

    /// Whether a document becomes a row. Asked wherever one is read: what does not is as if it were
    /// not there.
    pub fn follows(&self, document: &[u8]) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.follows(document))
    }

    pub const fn filter(&self) -> Option<&Filter> {
        self.filter.as_ref()
    }

    /// What is remembered of it with the rows it makes.
    pub const fn digest(&self) -> &MappingDigest {
        &self.digest
    }

    /// What its rows hold.
    pub fn rows(&self) -> RowSpec<'_> {
        RowSpec { columns: &self.columns, keeping: self.keeping, children: &self.children }
    }

    /// A document as its stream lets it be seen.
    ///
    /// # Errors
    /// It cannot be redacted: it is not BSON, or would become too large.
    pub fn redacted<'d>(&self, document: Doc<'d>) -> Result<Cow<'d, [u8]>, Unwritable> {
        if self.redaction.is_none() {
            return Ok(Cow::Borrowed(document.bytes()));
        }
        self.redaction.apply(document, self.bound(0)).map(Cow::Owned)
    }

    /// What is kept of an event that is set aside.
    pub fn evidence_of_event(&self, event: &[u8]) -> Evidence {
        Evidence::of_event(event, &self.redaction, self.bound(0))
    }

    /// What is kept of a document that is set aside.
    pub fn evidence_of_document(&self, document: &[u8]) -> Evidence {
        Evidence::of_document(document, &self.redaction, self.bound(0))
    }

    /// What is kept of a letter that another mapping made.
    pub fn evidence_of_letter(&self, operation: &str, event: &[u8]) -> Evidence {
        Evidence::of_letter(operation, event, &self.redaction, self.bound(0))
    }

    pub const fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    /// The hash that the row of this document holds in `_hash`. Documents with the same hash are
    /// taken to become the same row. The reverse does not hold: documents that become the same row
    /// may have different hashes, where their fields stand in another order or another mapping
    /// wrote the row.
    pub fn hash(&self, document: &[u8]) -> i64 {
        if self.redaction.is_none() {
            return self.hash_of_redacted(document);
        }
        // What cannot be redacted has no row.
        let document = Doc::new(document).map_err(Unwritable::from);
        let redacted = document.and_then(|document| self.redacted(document));
        self.hash_of_redacted(&redacted.unwrap_or_default())
    }

    fn hash_of_redacted(&self, document: &[u8]) -> i64 {
        XxHash3_64::oneshot_with_seed(self.seed, document).cast_signed()
    }

    /// Encodes one document as a row of `rows`; on an error `rows` is as before.
    ///
    /// # Errors
    /// The document is not BSON, or is larger than a row may be.
    pub fn encode(
        &self,
        id: &str,
        document: Doc<'_>,
        at: ClusterTime,
        origin: usize,
        rows: &mut Rows,
        drift: &mut Drift,
    ) -> Result<(), Unwritable> {
        failpoint::hit_by("encode", document.bytes());
        if self.redaction.is_none() {
            return self.encode_redacted(id, document, (at, origin), rows, drift);
        }
        let redacted = self.redacted(document)?;
        self.encode_redacted(id, Doc::new(&redacted)?, (at, origin), rows, drift)
    }

    fn encode_redacted(
        &self,
        id: &str,
        document: Doc<'_>,
        (at, origin): (ClusterTime, usize),
        rows: &mut Rows,
        drift: &mut Drift,
    ) -> Result<(), Unwritable> {
        let fields = self.fields_of(document)?;
        let shape = rows.shapes.of(self.seed, &self.heads, &fields);
        drift.begin(self.told);
        for (key, _) in shape.unmapped.iter().filter_map(|place| fields.get(*place)) {
            drift.unmapped(key);
        }
        let mut row = rows.begin();
        let bound = self.bound(row.start());
        row.field(|out| (true, out.extend_from_slice(id.as_bytes())));
        for (index, column) in self.columns.iter().enumerate() {
            let value = self.value(index, column, &shape, &fields);
            let fit = row.field(|out| {
                let fit = encode(value, column, bound, out);
                (fit == Fit::Value, fit)
            });
            if fit == Fit::TooLarge {
                row.abandon();
                return Err(Unwritable::Bytes);
            }
            drift.present(index, value.is_some());
            let noticed = match fit {
                Fit::Drift => value.map(|value| unfit(value, column.kind)),
                Fit::Null if column.required && value.is_none() => Some(DriftKind::Missing),
                Fit::Null | Fit::Value | Fit::TooLarge => None,
            };
            if let Some(kind) = noticed {
                *drift.fields.entry((index, kind)).or_default() += 1;
            }
        }
        if self.keeping.doc {
            let encoded = row.field(|out| {
                out.push(JSONB_VERSION);
                let encoded = encode_doc(document, &fields, &shape, bound, out);
                (encoded.is_ok(), encoded)
            });
            match encoded {
                Ok(encoded) => drift.replaced += encoded.replaced,
                Err(error) => {
                    row.abandon();
                    return Err(error);
                }
            }
        }
        if let Err(error) = self.encode_children(document, &mut row, bound, drift) {
            row.abandon();
            return Err(error);
        }
        let hash = self.hash_of_redacted(document.bytes());
        row.field(|out| (true, out.extend_from_slice(&hash.to_be_bytes())));
        row.field(|out| (true, out.extend_from_slice(&at.to_sql().to_be_bytes())));
        row.finish(origin);
        Ok(())
    }

    /// Counts, by column, in `found`.
    ///
    /// # Errors
    /// The document is not BSON, or has more fields than it may.
    pub fn survey(&self, document: Doc<'_>, found: &mut Vec<Sampled>) -> Result<(), Unwritable> {
        found.resize(self.told, Sampled::default());
        let redacted = self.redacted(document)?;
        let document = Doc::new(&redacted)?;
        let fields = self.fields_of(document)?;
        let shape = Shapes::default().of(self.seed, &self.heads, &fields);
        for ((index, column), sampled) in self.columns.iter().enumerate().zip(&mut *found) {
            let value = self.value(index, column, &shape, &fields);
            sampled.add(Sampled::of(value, column, self.bound(0)));
        }
        let of_children = found.get_mut(self.columns.len()..).unwrap_or_default();
        self.survey_children(document, of_children)
    }

    /// The limits of a row that begins at byte `start` of its buffer.
    const fn bound(&self, start: usize) -> Bound {
        Bound { fields: self.limits.fields_max, end: start.saturating_add(self.limits.bytes_max) }
    }

    /// The document's fields. They are counted as they are read, so that a document with too many
    /// is given up before anything is made of it.
    fn fields_of<'d>(&self, document: Doc<'d>) -> Result<Vec<Field<'d>>, Unwritable> {
        // As many as take one allocation.
        let mut fields = Vec::with_capacity(32);
        for element in document.elements() {
            if fields.len() == self.limits.fields_max {
                return Err(Unwritable::Fields);
            }
            fields.push(element?);
        }
        Ok(fields)
    }

    /// The first of the column's paths that the document has.
    fn value<'a>(
        &self,
        index: usize,
        column: &Column,
        shape: &Shape,
        fields: &[Field<'a>],
    ) -> Option<Value<'a>> {
        let slots = self.slots.get(index)?;
        column.paths.iter().zip(slots).find_map(|(path, &slot)| {
            let (_, head) = *fields.get((*shape.heads.get(slot)?)?)?;
            match path.get(1..) {
                None | Some([]) => Some(head),
                Some(rest) => {
                    find(head.as_document().filter(|_| head.kind == kind::DOCUMENT)?, rest)
                }
            }
        })
    }
}

fn encode(value: Option<Value<'_>>, column: &Column, bound: Bound, out: &mut Vec<u8>) -> Fit {
    match column.zone {
        Some(zone) => encode_day(value, zone, bound, out),
        None => encode_column(value, column.kind, bound, out),
    }
}

/// `doc`, by what documents of one shape share, if they share it.
fn encode_doc(
    document: Doc<'_>,
    fields: &[Field<'_>],
    shape: &Shape,
    bound: Bound,
    out: &mut Vec<u8>,
) -> Result<Encoded, Unwritable> {
    if let Some(layout) = &shape.layout {
        let left = Bound { fields: bound.fields.saturating_sub(fields.len()), ..bound };
        layout.encode(fields, left, out)
    } else {
        let whole = Value { kind: kind::DOCUMENT, bytes: document.bytes() };
        encode_value(whole, bound, out)
    }
}

/// The first byte of a binary `jsonb`.
const JSONB_VERSION: u8 = 1;

/// The types of a tuple's fields after the id: its contents', `_hash` and `_cluster_time`.
pub(super) fn field_types(rows: RowSpec<'_>) -> impl Iterator<Item = ColumnType> {
    content_types(rows).chain([ColumnType::Bigint, ColumnType::Bigint])
}

/// The types of what a row has of its document: the columns', then that of `doc` if it is kept, and
/// those of arrays that go into other tables.
pub(super) fn content_types(rows: RowSpec<'_>) -> impl Iterator<Item = ColumnType> {
    let doc = rows.keeping.doc.then_some(ColumnType::Jsonb);
    let children = rows.children.iter().map(|_| ColumnType::Jsonb);
    rows.columns.iter().map(|column| column.kind).chain(doc).chain(children)
}

#[cfg(test)]
mod tests;
