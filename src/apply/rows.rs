//! Rows as they go on the wire: binary tuples in one buffer, encoded once for both roads into the table.
//!
//! A tuple is what COPY takes: a 16-bit field count, then each field with its 32-bit length (-1 = NULL), in the
//! order id, columns, doc, `_hash`, `_cluster_time`. For `unnest` the same bytes are read out column by column.

use std::ops::Range;

use crate::model::position::ClusterTime;

/// Encoded rows. Indices are in the order of encoding.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Debug, Clone)]
struct Row {
    tuple: Range<usize>,
    /// Which event of the batch, or document of the chunk, this row came from.
    origin: usize,
}

/// One row being encoded; takes back its bytes unless finished.
pub(super) struct RowEncoder<'r> {
    rows: &'r mut Rows,
    start: usize,
    fields: u16,
}

impl Rows {
    pub const fn len(&self) -> usize {
        self.rows.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes held.
    pub const fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn begin(&mut self) -> RowEncoder<'_> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        RowEncoder { rows: self, start, fields: 0 }
    }

    /// Which event or document row `index` came from.
    pub fn origin(&self, index: usize) -> Option<usize> {
        self.rows.get(index).map(|row| row.origin)
    }

    /// The id of row `index`.
    pub fn id(&self, index: usize) -> Option<&str> {
        let tuple = self.tuple(index)?;
        std::str::from_utf8(field(tuple, &mut 2)?).ok()
    }

    pub(super) fn tuple(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.rows.get(index)?.tuple.clone())
    }

    /// Keeps the first `keep` rows.
    pub fn truncate(&mut self, keep: usize) {
        self.rows.truncate(keep);
        self.bytes.truncate(self.rows.last().map_or(0, |row| row.tuple.end));
    }

    /// The hash of row `index`, as stored in `_hash`.
    pub fn hash(&self, index: usize) -> Option<i64> {
        let tail = self.tuple(index)?.last_chunk::<20>()?;
        Some(i64::from_be_bytes(*tail.first_chunk::<8>()?))
    }

    /// A copy without the rows at these places, which are in ascending order.
    #[must_use]
    pub fn without_places(&self, places: &[usize]) -> Self {
        let mut leave_out = places.iter().copied().peekable();
        let mut kept = Self::default();
        for (place, row) in self.rows.iter().enumerate() {
            if leave_out.next_if_eq(&place).is_none() {
                let start = kept.bytes.len();
                kept.bytes.extend_from_slice(self.bytes.get(row.tuple.clone()).unwrap_or_default());
                kept.rows.push(Row { tuple: start..kept.bytes.len(), origin: row.origin });
            }
        }
        kept
    }

    /// Leaves out the rows whose id `leave_out` names.
    pub fn without(&mut self, leave_out: impl Fn(&str) -> bool) {
        let kept: Vec<Row> = (0..self.len())
            .filter(|&index| !self.id(index).is_some_and(&leave_out))
            .filter_map(|index| self.rows.get(index).cloned())
            .collect();
        self.rows = kept;
    }
}

/// Reads one length-prefixed field, advancing `at`; `None` is NULL (or the end).
pub(super) fn field<'t>(tuple: &'t [u8], at: &mut usize) -> Option<&'t [u8]> {
    let length = i32::from_be_bytes(*tuple.get(*at..)?.first_chunk::<4>()?);
    *at += 4;
    let length = usize::try_from(length).ok()?;
    let value = tuple.get(*at..*at + length)?;
    *at += length;
    Some(value)
}

impl RowEncoder<'_> {
    /// Appends one field; `encode` returns whether it wrote a value (else NULL, and its bytes are dropped).
    pub fn field<T>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> (bool, T)) -> T {
        let out = &mut self.rows.bytes;
        let at = out.len();
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        let (written, result) = encode(out);
        if written {
            let length = i32::try_from(out.len() - at - 4).unwrap_or(i32::MAX);
            if let Some(slot) = out.get_mut(at..at + 4) {
                slot.copy_from_slice(&length.to_be_bytes());
            }
        } else {
            out.truncate(at + 4);
        }
        self.fields += 1;
        result
    }

    /// What is encoded so far: what a row's hash is taken of, once its columns and `doc` are.
    pub fn content(&self) -> &[u8] {
        self.rows.bytes.get(self.start..).unwrap_or_default()
    }

    pub fn finish(self, origin: usize) {
        if let Some(slot) = self.rows.bytes.get_mut(self.start..self.start + 2) {
            slot.copy_from_slice(&self.fields.to_be_bytes());
        }
        let tuple = self.start..self.rows.bytes.len();
        self.rows.rows.push(Row { tuple, origin });
    }

    pub fn abandon(self) {
        self.rows.bytes.truncate(self.start);
    }
}

/// Keys to delete, each with the cluster time of its deletion.
#[derive(Debug, Default)]
pub struct Deletes {
    pub ids: Vec<String>,
    pub cluster_times: Vec<i64>,
}

impl Deletes {
    pub fn push(&mut self, id: String, at: ClusterTime) {
        self.ids.push(id);
        self.cluster_times.push(at.to_sql());
    }
}
