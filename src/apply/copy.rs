//! Rows by binary COPY: the insert path that costs Postgres least, open only to rows that are not
//! in the table yet, because COPY stops at the first one that is.

use std::ops::Range;

use sqlx::postgres::{PgConnection, PgCopyIn};
use tokio::sync::mpsc;

use super::row_writer::RowWriter;
use super::rows::{RowBuffers, Rows};
use super::work::Work;
use crate::failpoint;
use crate::postgres::{Trouble, about_rows};

pub(super) const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// After the last tuple.
pub(super) const END: [u8; 2] = (-1_i16).to_be_bytes();

/// Bytes handed to sqlx at a time. It copies each piece once more on its way to the wire; one of
/// this size is then still in the processor's cache.
const PIECE: usize = 64 << 10;

type Sink<'c> = PgCopyIn<&'c mut PgConnection>;

impl RowWriter<'_> {
    pub(super) async fn copy(
        &self,
        connection: &mut PgConnection,
        rows: &Rows,
        range: Range<usize>,
    ) -> Result<u64, Trouble> {
        let call = async {
            let mut sink = self.open(connection).await?;
            send(&mut sink, rows, range).await?;
            end(sink).await
        };
        about_rows(self.target.deadline(), call).await
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
        let deadline = self.target.deadline();
        let mut sink = about_rows(deadline, self.open(connection)).await?;
        let mut rest = Work::default();
        while let Some(mut chunk) = chunks.recv().await {
            about_rows(deadline, send(&mut sink, &chunk.rows, 0..chunk.rows.len())).await?;
            buffers.give(chunk.rows);
            rest.dead.append(&mut chunk.dead);
            rest.events += chunk.events;
            rest.walk = chunk.walk;
        }
        Ok((about_rows(deadline, end(sink)).await?, rest))
    }

    async fn open<'c>(&self, connection: &'c mut PgConnection) -> Result<Sink<'c>, sqlx::Error> {
        let mut sink = connection.copy_in_raw(&self.statements.copy).await?;
        sink.send(SIGNATURE).await?;
        failpoint::hit("apply.copying");
        Ok(sink)
    }
}

async fn send(sink: &mut Sink<'_>, rows: &Rows, range: Range<usize>) -> Result<(), sqlx::Error> {
    for piece in rows.pieces(range, PIECE) {
        sink.send(piece).await?;
    }
    Ok(())
}

async fn end(mut sink: Sink<'_>) -> Result<u64, sqlx::Error> {
    sink.send(END.as_slice()).await?;
    sink.finish().await
}
