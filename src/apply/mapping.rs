//! From a document to a row: the configured columns, the whole document, its time.

use twox_hash::XxHash3_64;

use super::drift::{Drift, unfit};
use super::rows::Rows;
use super::shape::{Field, Shape, Shapes};
use crate::failpoint;
use crate::model::bson::{Doc, Value, kind};
use crate::model::drift_kind::DriftKind;
use crate::model::position::ClusterTime;
use crate::model::value::{
    Bound, ColumnType, Encoded, Fit, Unwritable, encode_column, encode_value, find,
};
use crate::settings::{Column, RowLimits};

/// How documents of one stream become rows.
#[derive(Debug, Clone)]
pub struct Mapping {
    columns: Vec<Column>,
    /// Top-level field names that columns begin at, each once; a slot is an index into this.
    heads: Vec<Box<str>>,
    /// For each column, for each of its paths: the slot of its head.
    slots: Vec<Vec<usize>>,
    /// What documents' hashes are seeded with: how they become rows.
    seed: u64,
    limits: RowLimits,
}

/// Part of the seed. It is raised in a release in which a document becomes another row than before
/// under the same columns, so that no hash of an older release is taken for one of this.
const ENCODING: u64 = 2;

impl Mapping {
    pub fn new(columns: &[Column], limits: RowLimits) -> Self {
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
        Self { columns: columns.to_vec(), heads, slots, seed: seed(columns), limits }
    }

    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The hash that the row of this document holds in `_hash`. Documents with the same hash are
    /// taken to become the same row. The reverse does not hold: documents that become the same row
    /// may have different hashes, where their fields stand in another order or another mapping
    /// wrote the row.
    pub fn hash(&self, document: &[u8]) -> i64 {
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
        let fields = self.fields_of(document)?;
        let shape = rows.shapes.of(self.seed, &self.heads, &fields);
        drift.begin(self.columns.len());
        for (key, _) in shape.unmapped.iter().filter_map(|place| fields.get(*place)) {
            drift.unmapped(key);
        }
        let mut row = rows.begin();
        let bound = self.bound(row.start());
        row.field(|out| (true, out.extend_from_slice(id.as_bytes())));
        for (index, column) in self.columns.iter().enumerate() {
            let value = self.value(index, column, &shape, &fields);
            let fit = row.field(|out| {
                let fit = encode_column(value, column.kind, bound, out);
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
        row.field(|out| (true, out.extend_from_slice(&self.hash(document.bytes()).to_be_bytes())));
        row.field(|out| (true, out.extend_from_slice(&at.to_sql().to_be_bytes())));
        row.finish(origin);
        Ok(())
    }

    /// Counts, by column, in `found`: documents that have a value for it, and values that do not
    /// fit its type.
    ///
    /// # Errors
    /// The document is not BSON, or has more fields than it may.
    pub fn survey(&self, document: Doc<'_>, found: &mut Vec<(u64, u64)>) -> Result<(), Unwritable> {
        found.resize(self.columns.len(), (0, 0));
        let fields = self.fields_of(document)?;
        let bound = self.bound(0);
        let shape = Shapes::default().of(self.seed, &self.heads, &fields);
        for ((index, column), (present, unfit)) in self.columns.iter().enumerate().zip(found) {
            let value = self.value(index, column, &shape, &fields);
            match encode_column(value, column.kind, bound, &mut Vec::new()) {
                Fit::Value | Fit::TooLarge => *present += 1,
                Fit::Drift => (*present, *unfit) = (*present + 1, *unfit + 1),
                Fit::Null => {}
            }
        }
        Ok(())
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

fn seed(columns: &[Column]) -> u64 {
    let mut text = Vec::new();
    for column in columns {
        for part in [&column.name, column.kind.sql()]
            .into_iter()
            .chain(column.paths.iter().flatten().map(|p| &**p))
        {
            text.extend_from_slice(part.as_bytes());
            text.push(0);
        }
        for path in &column.paths {
            text.extend_from_slice(&path.len().to_be_bytes());
        }
    }
    XxHash3_64::oneshot_with_seed(ENCODING, &text)
}

/// The first byte of a binary `jsonb`.
const JSONB_VERSION: u8 = 1;

/// The types of a tuple's fields after the id: the columns', then `doc`, `_hash` and
/// `_cluster_time`.
pub(super) fn field_types(columns: &[Column]) -> impl Iterator<Item = ColumnType> {
    columns.iter().map(|column| column.kind).chain([
        ColumnType::Jsonb,
        ColumnType::Bigint,
        ColumnType::Bigint,
    ])
}
