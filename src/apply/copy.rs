//! Rows by binary COPY: the insert path that costs Postgres least, open only to rows that are not
//! in the table yet, because COPY stops at the first one that is.

use std::ops::Range;

use sqlx::postgres::{PgConnection, PgCopyIn};
use tokio::sync::mpsc;

use super::row_writer::RowWriter;
use super::rows::{RowBuffers, Rows};
use super::work::Work;
use crate::failpoint;
use crate::postgres::Trouble;

pub(super) const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// After the last tuple.
pub(super) const END: [u8; 2] = (-1_i16).to_be_bytes();

/// Bytes that go on the wire at a time. sqlx copies them once more on their way; so many are then
/// still in the processor's cache.
const PIECE: usize = 64 << 10;

/// Bytes that are held back until more come or the COPY ends, and fewer than which no COPY is begun
/// for. sqlx leaves Nagle's algorithm on: what is small waits until the small packet before it is
/// acknowledged, for which the server takes 40 ms, unless it had two whole packets (of 64 KiB over
/// the loopback) just before. So nothing small is sent but the end, and that after much.
pub(super) const HELD_BACK: usize = 2 * PIECE;

/// A COPY under way.
struct Sink<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    pending: Vec<u8>,
}

impl Sink<'_> {
    async fn send(&mut self, rows: &Rows, range: Range<usize>) -> Result<(), sqlx::Error> {
        for piece in rows.pieces(range, PIECE) {
            self.pending.extend_from_slice(piece);
            if let Some(size @ PIECE..) = self.pending.len().checked_sub(HELD_BACK) {
                self.copy.send(self.pending.get(..size).unwrap_or_default()).await?;
                self.pending.drain(..size);
            }
        }
        Ok(())
    }

    async fn end(mut self) -> Result<u64, sqlx::Error> {
        self.pending.extend_from_slice(&END);
        self.copy.send(self.pending.as_slice()).await?;
        self.copy.finish().await
    }
}

impl RowWriter<'_> {
    pub(super) async fn copy(
        &self,
        connection: &mut PgConnection,
        rows: &Rows,
        range: Range<usize>,
    ) -> Result<u64, Trouble> {
        let size = range.len();
        let call = async {
            let mut sink = self.open(connection).await?;
            sink.send(rows, range).await?;
            sink.end().await
        };
        self.in_time(size, call).await
    }

    /// Copies the rows of all chunks that come by one COPY, because Postgres takes fresh buffers
    /// for each, and beginning and ending one costs it time. Returns how many rows were copied, and
    /// one piece of work without rows that holds what else the chunks bring: their dead letters and
    /// the last one's progress of the walk.
    pub(super) async fn bulk_load(
        &self,
        connection: &mut PgConnection,
        mut chunks: mpsc::Receiver<Work>,
        buffers: &RowBuffers,
    ) -> Result<(u64, Work), Trouble> {
        let mut sink = self.in_time(0, self.open(connection)).await?;
        let (mut rest, mut size) = (Work::default(), 0);
        while let Some(mut chunk) = chunks.recv().await {
            let rows = 0..chunk.rows.len();
            size += rows.len();
            self.in_time(rows.len(), sink.send(&chunk.rows, rows)).await?;
            buffers.give(chunk.rows);
            rest.dead.append(&mut chunk.dead);
            rest.events += chunk.events;
            rest.walk = chunk.walk;
            rest.ahead = rest.ahead.max(chunk.ahead);
        }
        Ok((self.in_time(size, sink.end()).await?, rest))
    }

    async fn open<'c>(&self, connection: &'c mut PgConnection) -> Result<Sink<'c>, sqlx::Error> {
        let copy = connection.copy_in_raw(&self.statements.copy).await?;
        failpoint::hit("apply.copying");
        Ok(Sink { copy, pending: SIGNATURE.to_vec() })
    }
}
