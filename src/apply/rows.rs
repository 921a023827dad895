//! Rows as they go on the wire: binary tuples in one buffer, encoded once for both ways into the
//! table, COPY and `unnest`.
//!
//! A tuple is what COPY takes: a 16-bit field count, then each field with its 32-bit length (-1 =
//! NULL), in the order id, columns, doc, arrays of
//! other tables, `_hash`, `_cluster_time`. For `unnest` the same bytes are
//! read out column by column.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::shape::Shapes;
use crate::model::position::ClusterTime;
use crate::model::value::read_field;

/// Encoded rows. Indices are in the order of encoding.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    places: Vec<Row>,
    /// Of the documents encoded last.
    pub(super) shapes: Shapes,
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
        self.places.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
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
        self.places.get(index).map(|row| row.origin)
    }

    /// The id of row `index`.
    pub fn id(&self, index: usize) -> Option<&str> {
        let tuple = self.tuple(index)?;
        std::str::from_utf8(read_field(tuple, &mut 2)?).ok()
    }

    /// Row `index` as COPY takes it.
    pub fn tuple(&self, index: usize) -> Option<&[u8]> {
        self.bytes.get(self.places.get(index)?.tuple.clone())
    }

    /// The tuples of these rows in pieces that lie in one, of at most `size` bytes unless a single
    /// tuple is larger.
    pub(super) fn pieces(&self, rows: Range<usize>, size: usize) -> impl Iterator<Item = &[u8]> {
        let mut tuples = self
            .places
            .get(rows)
            .unwrap_or_default()
            .iter()
            .map(|row| row.tuple.clone())
            .peekable();
        std::iter::from_fn(move || {
            let mut piece = tuples.next()?;
            while let Some(next) =
                tuples.next_if(|next| next.start == piece.end && next.end - piece.start <= size)
            {
                piece.end = next.end;
            }
            self.bytes.get(piece)
        })
    }

    /// Bytes of these rows as COPY takes them.
    pub(super) fn bytes(&self, rows: Range<usize>) -> usize {
        self.places.get(rows).unwrap_or_default().iter().map(|row| row.tuple.len()).sum()
    }

    /// Keeps the first `keep` rows.
    pub fn truncate(&mut self, keep: usize) {
        self.places.truncate(keep);
        self.bytes.truncate(self.places.last().map_or(0, |row| row.tuple.end));
    }

    /// Leaves out the rows whose id `leave_out` names.
    pub fn without(&mut self, leave_out: impl Fn(&str) -> bool) {
        let kept: Vec<Row> = (0..self.len())
            .filter(|&index| !self.id(index).is_some_and(&leave_out))
            .filter_map(|index| self.places.get(index).cloned())
            .collect();
        self.places = kept;
    }
}

/// Buffers of rows that were written, used again: a fresh one of megabytes is copied as it grows,
/// and the kernel clears each of its pages.
#[derive(Debug, Clone, Default)]
pub struct RowBuffers(Arc<Mutex<Vec<Rows>>>);

impl RowBuffers {
    /// One for the batch being prepared, one for the chunk being read.
    const NUMBER_MAX: usize = 2;

    /// A batch of large documents leaves no such buffer behind.
    const BYTES_MAX: usize = 16 << 20;

    pub fn take(&self) -> Rows {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub fn give(&self, mut rows: Rows) {
        let mut buffers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < Self::NUMBER_MAX
            && (1..=Self::BYTES_MAX).contains(&rows.bytes.capacity())
        {
            rows.truncate(0);
            buffers.push(rows);
        }
    }
}

impl RowEncoder<'_> {
    /// Where in its buffer the row begins.
    pub const fn start(&self) -> usize {
        self.start
    }

    /// Appends one field; `encode` returns whether it wrote a value (else NULL, and its bytes are
    /// dropped).
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

    pub fn finish(self, origin: usize) {
        if let Some(slot) = self.rows.bytes.get_mut(self.start..self.start + 2) {
            slot.copy_from_slice(&self.fields.to_be_bytes());
        }
        let tuple = self.start..self.rows.bytes.len();
        self.rows.places.push(Row { tuple, origin });
    }

    pub fn abandon(self) {
        self.rows.bytes.truncate(self.start);
    }
}

/// Keys to delete.
#[derive(Debug, Default)]
pub struct Deletes {
    pub ids: Vec<String>,
    /// Rows that are newer than these stay.
    pub cluster_times: Vec<i64>,
    /// When each was gone: a later document of its id is another one.
    pub gone_at: Vec<i64>,
    /// Which event of the batch each came from, if from one.
    pub(super) origins: Vec<Option<usize>>,
}

impl Deletes {
    /// A delete that no event asks for.
    pub fn push(&mut self, id: String, at: ClusterTime) {
        self.push_found(id, at, at);
    }

    /// A delete of a row that was found with this time, whose document was gone when it was asked
    /// for.
    /// It goes back to that time only from one that no source can have told.
    pub fn push_found(&mut self, id: String, found: ClusterTime, asked: ClusterTime) {
        let gone = if found > asked.ahead_max() { asked } else { asked.max(found) };
        self.ids.push(id);
        self.cluster_times.push(found.to_sql());
        self.gone_at.push(gone.to_sql());
        self.origins.push(None);
    }

    /// A delete that event `origin` of the batch asks for.
    pub fn push_event(&mut self, id: String, at: ClusterTime, origin: usize) {
        self.push(id, at);
        if let Some(last) = self.origins.last_mut() {
            *last = Some(origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[&str]) -> Rows {
        let mut rows = Rows::default();
        for (origin, text) in texts.iter().enumerate() {
            let mut row = rows.begin();
            row.field(|out| (true, out.extend_from_slice(text.as_bytes())));
            row.finish(origin);
        }
        rows
    }

    #[test]
    fn pieces_are_the_tuples_one_after_the_other_and_no_longer_than_asked() {
        let mut rows = rows(&["a", "bb", "ccc", "dddd", "a tuple longer than a piece"]);
        rows.without(|id| id == "bb");
        let tuples: Vec<u8> =
            (0..rows.len()).flat_map(|n| rows.tuple(n).unwrap().to_vec()).collect();
        for size in 0..80 {
            let pieces: Vec<&[u8]> = rows.pieces(0..rows.len(), size).collect();
            assert_eq!(pieces.concat(), tuples, "pieces of {size}");
            assert!(
                pieces.iter().all(|piece| piece.len() <= size.max(rows.tuple(3).unwrap().len()))
            );
        }
        let ends: Vec<usize> = rows.pieces(0..4, 1_000).map(<[u8]>::len).collect();
        assert_eq!(ends.len(), 2, "what was left out lies between two pieces");
        assert_eq!(rows.pieces(1..2, 1_000).collect::<Vec<_>>(), [rows.tuple(1).unwrap()]);
    }

    #[test]
    fn a_spare_is_empty_and_a_large_one_is_not_kept() {
        let buffers = RowBuffers::default();
        buffers.give(rows(&["a"]));
        buffers
            .give(Rows { bytes: Vec::with_capacity(RowBuffers::BYTES_MAX + 1), ..Rows::default() });
        let spare = buffers.take();
        assert!(spare.is_empty() && spare.size() == 0 && spare.bytes.capacity() > 0);
        assert_eq!(buffers.take().bytes.capacity(), 0);
    }
}
