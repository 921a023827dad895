//! Documents read by `_id`: looked up for a batch, or walked in chunks. Majority reads, causally after a position.

use std::pin::Pin;

use futures_util::StreamExt;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::command::{count, raw};
use super::{DEADLINE, Reply, Source, within};
use crate::error::{Class, Code, Fault};
use crate::model::bson::{Builder, Value};
use crate::model::position::ClusterTime;

/// A find in progress: replies of at most 16 MB, read one at a time so that memory stays bounded.
pub struct Documents {
    cursor: Pin<Box<RawBatchCursor>>,
}

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents").finish_non_exhaustive()
    }
}

impl Source {
    /// The documents with these `_id`s, as they are at or after `after`. Missing ones are not answered for.
    ///
    /// # Errors
    /// Whatever the server answers, classified.
    pub async fn lookup(&self, collection: &str, ids: &[Value<'_>], after: ClusterTime) -> Result<Documents, Fault> {
        let mut list = Builder::default();
        let mut digits = itoa::Buffer::new();
        for (index, id) in ids.iter().enumerate() {
            list.push(digits.format(index), *id);
        }
        let filter = Builder::default().document("_id", Builder::default().array("$in", list));
        let command = Builder::default()
            .text("find", collection)
            .document("filter", filter)
            .i32("batchSize", count(ids.len() + 1))
            .document("readConcern", self.read_concern(after));
        self.documents(command).await
    }

    /// At most `limit` documents matching `filter` in the order of `_id`, as they are at or after `after`.
    ///
    /// # Errors
    /// Whatever the server answers, classified.
    pub async fn chunk(
        &self,
        collection: &str,
        filter: Builder,
        limit: usize,
        after: ClusterTime,
    ) -> Result<Documents, Fault> {
        let command = Builder::default()
            .text("find", collection)
            .document("filter", filter)
            .document("sort", Builder::default().i32("_id", 1))
            .document("hint", Builder::default().i32("_id", 1))
            .i32("limit", count(limit))
            .i32("batchSize", count(limit))
            .document("readConcern", self.read_concern(after));
        self.documents(command).await
    }

    /// Documents picked at random, as they are at or after `after`.
    ///
    /// # Errors
    /// Whatever the server answers, classified.
    pub async fn sample(&self, collection: &str, size: u64, after: ClusterTime) -> Result<Documents, Fault> {
        let size = Builder::default().i32("size", i32::try_from(size).unwrap_or(i32::MAX));
        let stage = Builder::default().document("$sample", size);
        let command = Builder::default()
            .text("aggregate", collection)
            .array("pipeline", Builder::default().document("0", stage))
            .document("cursor", Builder::default())
            .document("readConcern", self.read_concern(after));
        self.documents(command).await
    }

    async fn documents(&self, command: Builder) -> Result<Documents, Fault> {
        let call = self.database.run_raw_cursor_command(raw(command)?);
        let cursor = within(DEADLINE, call.batch()).await?;
        Ok(Documents { cursor: Box::pin(cursor) })
    }
}

impl Documents {
    /// The next reply, or `None` after the last.
    ///
    /// # Errors
    /// Whatever the server answers, classified.
    pub async fn next(&mut self) -> Result<Option<Reply>, Fault> {
        let cursor = &mut self.cursor;
        let batch = within(DEADLINE, async { cursor.next().await.transpose() }).await?;
        batch.map(Reply::of_driver).transpose().map_err(|error| {
            Fault::new(Class::Unknown, Code::SourceUnreachable, format!("mongodb's reply: {error}"), "")
        })
    }
}
