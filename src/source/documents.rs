//! Documents read by `_id`: looked up for a batch, or walked in chunks. What could be rolled back
//! is never read; all reads are causally after a position, and where the server can do so, as of
//! one moment that it names.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use mongodb::raw_batch_cursor::RawBatchCursor;

use super::command::{as_of, count, majority, raw, snapshot};
use super::reach::Reach;
use super::{DEADLINE, Reply, Source};
use crate::error::{Class, Fault};
use crate::model::bson::{Builder, Value, kind};
use crate::model::position::ClusterTime;

/// A find in progress: replies of at most 16 MB, read one at a time so that memory stays bounded.
pub struct Documents {
    reach: Arc<Reach>,
    cursor: Pin<Box<RawBatchCursor>>,
    /// All documents are as they were at this time; `None` where the server does not tell.
    pub read_at: Option<ClusterTime>,
    /// None of what was answered is of a later time; `None` where the server does not tell.
    pub read_until: Option<ClusterTime>,
}

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Documents").finish_non_exhaustive()
    }
}

impl Source {
    /// The documents with these `_id`s, as they are at or after `after`. The answer leaves out
    /// those that do not exist.
    pub async fn lookup(
        &self,
        collection: &str,
        ids: &[Value<'_>],
        after: ClusterTime,
    ) -> Result<Documents, Fault> {
        self.documents(of_ids(collection, ids), after).await
    }

    /// The documents with these `_id`s, as they were at exactly this time. Where the server cannot
    /// read so, as they are at or after it: [`Documents::read_at`] is then later, or not told.
    pub async fn lookup_at(
        &self,
        collection: &str,
        ids: &[Value<'_>],
        at: ClusterTime,
    ) -> Result<Documents, Fault> {
        if self.causal(at) != ClusterTime::default() && self.reads_exactly() {
            let command = of_ids(collection, ids).document("readConcern", as_of(at));
            match self.begin(command).await {
                Ok(documents) => return Ok(Documents { read_at: Some(at), ..documents }),
                // Older than what the server keeps of its past: what there is now is newer.
                Err(refused) if refused.class == Class::Transient && !is_unavailable(&refused) => {
                    return Err(refused);
                }
                Err(_) => {}
            }
        }
        self.lookup(collection, ids, at).await
    }

    /// Those of these `_id`s that documents have, at or after `after`, each with some top-level
    /// fields of its document.
    pub async fn living(
        &self,
        collection: &str,
        ids: &[Value<'_>],
        fields: &BTreeSet<&str>,
        after: ClusterTime,
    ) -> Result<Documents, Fault> {
        let others = fields.iter().filter(|field| **field != "_id");
        let only_id = Builder::default().i32("_id", 1);
        let projection = others.fold(only_id, |projection, field| projection.i32(field, 1));
        let command = of_ids(collection, ids).document("projection", projection);
        self.documents(command, after).await
    }

    /// The `_id`s of at most `limit` documents that match a filter in the server's own language, at
    /// or after `after`.
    pub async fn matching(
        &self,
        collection: &str,
        filter: &[u8],
        limit: usize,
        after: ClusterTime,
    ) -> Result<Documents, Fault> {
        let command = Builder::default()
            .text("find", collection)
            .value("filter", Value { kind: kind::DOCUMENT, bytes: filter })
            .document("projection", Builder::default().i32("_id", 1))
            .i32("limit", count(limit));
        self.documents(command, after).await
    }

    /// At most `limit` documents matching `filter` in the order of `_id`, as they are at or after
    /// `after`.
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
            .i32("batchSize", count(limit));
        self.documents(command, after).await
    }

    /// Documents picked at random, as they are at or after `after`.
    pub async fn sample(
        &self,
        collection: &str,
        size: u64,
        after: ClusterTime,
    ) -> Result<Documents, Fault> {
        let size = Builder::default().i32("size", i32::try_from(size).unwrap_or(i32::MAX));
        let stage = Builder::default().document("$sample", size);
        let command = Builder::default()
            .text("aggregate", collection)
            .array("pipeline", Builder::default().document("0", stage))
            .document("cursor", Builder::default());
        self.documents(command, after).await
    }

    /// At most `limit` documents in an order such as `{$natural: -1}`.
    pub(super) async fn in_natural_order(
        &self,
        collection: &str,
        limit: u64,
        order: Builder,
    ) -> Result<Documents, Fault> {
        let command = Builder::default()
            .text("find", collection)
            .document("sort", order)
            .i32("limit", i32::try_from(limit).unwrap_or(i32::MAX));
        self.documents(command, ClusterTime::default()).await
    }

    /// Reads of one moment, else the majority's: never what could be rolled back, never what is
    /// older than `after`.
    async fn documents(&self, command: Builder, after: ClusterTime) -> Result<Documents, Fault> {
        let after = self.causal(after);
        if !self.reads_exactly() {
            return self.begin(command.document("readConcern", majority(after))).await;
        }
        let exact = self.begin(command.clone().document("readConcern", snapshot(after))).await;
        let Err(refused) = exact.as_ref().map(drop) else { return exact };
        let is_of_this_read = is_unavailable(refused);
        if refused.class == Class::Transient && !is_of_this_read {
            return exact;
        }
        let documents = self.begin(command.document("readConcern", majority(after))).await?;
        if !is_of_this_read {
            self.cannot_read_exactly(refused);
        }
        Ok(documents)
    }

    async fn begin(&self, command: Builder) -> Result<Documents, Fault> {
        let database = self.database().await?;
        let call = database.run_raw_cursor_command(raw(command)?);
        let cursor = self.with_deadline(DEADLINE, call.batch()).await?;
        let (reach, cursor) = (Arc::clone(&self.reach), Box::pin(cursor));
        Ok(Documents { reach, cursor, read_at: None, read_until: None })
    }
}

fn of_ids(collection: &str, ids: &[Value<'_>]) -> Builder {
    let mut list = Builder::default();
    let mut digits = itoa::Buffer::new();
    for (index, id) in ids.iter().enumerate() {
        list.push(digits.format(index), *id);
    }
    let filter = Builder::default().document("_id", Builder::default().array("$in", list));
    Builder::default()
        .text("find", collection)
        .document("filter", filter)
        .i32("batchSize", count(ids.len() + 1))
}

/// Whether the server has no such moment of this collection: it does not keep so much of its past,
/// the collection was altered since, or it is capped, of which there never is one.
fn is_unavailable(refused: &Fault) -> bool {
    ["SnapshotTooOld", "SnapshotUnavailable"].iter().any(|name| refused.message.contains(name))
}

impl Documents {
    /// The next reply, or `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Reply>, Fault> {
        let cursor = &mut self.cursor;
        let batch =
            self.reach.with_deadline(DEADLINE, async { cursor.next().await.transpose() }).await?;
        let reply = batch.map(Reply::of_driver).transpose()?;
        // Only the first reply names the moment.
        self.read_at = self.read_at.or(reply.as_ref().and_then(|reply| reply.read_at));
        let answered_at = reply.as_ref().and_then(|reply| reply.operation_time);
        self.read_until = self.read_at.or(answered_at.max(self.read_until));
        Ok(reply)
    }
}
