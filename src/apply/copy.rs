//! Rows by binary COPY: the road that costs Postgres least, open only to rows that are not in the
//! table yet.

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

/// What sqlx copies once more on its way stays in the processor's cache.
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

    /// Copies the rows of all chunks that come, into one COPY: to begin and end one costs Postgres
    /// something, and for each it takes fresh buffers. Returns how many rows, and what is left to
    /// be written down of the chunks: one piece of work without rows.
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
