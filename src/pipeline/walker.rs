//! The walk beside the live stream: one chunk is read ahead while another is written.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::Utc;
use sqlx::postgres::PgConnection;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::care::{Care, InHand};
use super::chunk_reader::{Answer, Read};
use super::context::Context;
use crate::apply::{Checksums, Drift, Origins, Then, Walk, WalkStep, Work};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::model::reason::Reason;
use crate::resync::{Chunk, Place, Reading};
use crate::state::WalkRow;

/// If the live stream touches more keys than this while a chunk is read, the chunk is read anew.
pub(super) const TOUCHED_MAX: usize = 100_000;

/// A chunk holds so many times `resync.chunk_documents` to write unless the rate is limited: a
/// commit costs the more round trips a document the smaller it is.
const FINDS_MAX: u64 = 8;

/// How many finds a chunk holds until it is known how long writing takes: as many as are read while
/// the first find's documents are written.
const FINDS_FIRST: u64 = 2;

/// Chunks are sized so that one takes no longer than this to write, because the live stream waits
/// for it.
const WRITE_TIME: Duration = Duration::from_millis(200);

/// A walk under way.
pub struct Walker {
    context: Context,
    id: i64,
    /// The walk fills an empty table, and no sweep comes after it.
    is_snapshot: bool,
    /// Another mapping made the rows: all get the hash that this one gives them.
    renews: bool,
    /// Where the next chunk to be asked for begins.
    place: Place,
    documents_read: u64,
    estimated: Option<u64>,
    /// Keys the live stream wrote since the chunk now being read was begun: those rows are newer
    /// than the chunk.
    touched: HashSet<String>,
    /// The position the live stream goes on from: every event to come is at least as new, so rows
    /// may carry this time even where the source's own clock is not trusted to the second.
    start: ClusterTime,
    /// The time the next chunk must see and its rows will carry: of an event or a reply, never of a
    /// token, because an idle stream's token may be ahead of the source's clock, which the source
    /// then refuses to read at.
    time: Option<ClusterTime>,
    /// A chunk was read, which no other is older than. What happened before the walk's start is not
    /// applied beside it: the first must see that, too.
    has_begun: bool,
    reading: JoinSet<Result<Answer, Fault>>,
    /// Processes have died: one small chunk is read and written after the other, each written down
    /// before.
    care: Option<Care>,
    /// The chunk that is read or written, with care.
    in_hand: Option<InHand>,
    /// How many finds the next chunk may hold that are to be written.
    finds: u64,
    /// The writer waits for the chunk being read.
    awaited: Arc<AtomicBool>,
    /// Tells which documents need not be written; `None` where all are, or while a chunk is being
    /// read.
    checksums: Option<Checksums>,
    begun: Instant,
    read_before: u64,
    logged: Instant,
}

/// What of a resync goes into one transaction: a chunk of the walk with the place after it, a part
/// of the sweep, or a change of the resync's state.
pub struct ResyncPart {
    pub work: Work,
    /// Read of the source.
    pub documents: u64,
    pub drift: Drift,
}

impl ResyncPart {
    /// What no document was read for.
    pub fn without_documents(work: Work) -> Self {
        Self { work, documents: 0, drift: Drift::default() }
    }
}

impl Walker {
    /// Takes up a walk at the place its row names.
    pub fn new(context: &Context, walk: &WalkRow, care: Option<Care>) -> Self {
        let read = u64::try_from(walk.documents_read).unwrap_or_default();
        let estimated = walk.documents_estimated.and_then(|n| u64::try_from(n).ok());
        tracing::info!(
            stream = %context.config.name,
            walk = walk.id,
            reason = walk.reason,
            documents = read,
            estimated,
            "walk under way"
        );
        // Where a person doubts the table, or it lacked something for a while, rows are compared
        // by their content, not by the hash of what was written.
        let is_asked = Reason::parse(&walk.reason).is_none_or(|reason| !reason.is_automatic());
        let doubts = walk.by_content || is_asked;
        let trusts = !walk.is_snapshot() && !doubts;
        Self {
            context: context.clone(),
            id: walk.id,
            is_snapshot: walk.is_snapshot(),
            renews: walk.by_content && !walk.reason().is_asked_for(),
            place: Place::restore(walk.walk_class, walk.walk_after.clone()),
            documents_read: read,
            estimated,
            touched: HashSet::new(),
            start: walk.start_time(),
            time: None,
            has_begun: false,
            reading: JoinSet::new(),
            care,
            in_hand: None,
            finds: FINDS_FIRST,
            awaited: Arc::default(),
            checksums: trusts
                .then(|| Checksums::new(context.target.clone(), context.statements.clone())),
            begun: Instant::now(),
            read_before: read,
            logged: Instant::now(),
        }
    }

    /// What the walk leaves to the sweep: a connection, if it opened one.
    pub fn into_connection(self) -> Option<PgConnection> {
        self.checksums.and_then(Checksums::into_connection)
    }

    /// Begins to read the next chunk.
    fn ask(&mut self) {
        self.touched.clear();
        let care = self.care.take().filter(|care| !care.is_over());
        let settings = &self.context.settings;
        let read = Read {
            context: self.context.clone(),
            id: self.id,
            reading: Reading {
                collection: self.context.config.collection.clone(),
                filter: self.context.mapping.filter().cloned(),
                documents_max: care.as_ref().map_or(settings.resync.chunk_documents, Care::step),
                bytes_max: settings.batch_bytes_max(),
                after: self.time.unwrap_or_default(),
            },
            start: self.start,
            checksums: self.checksums.take().filter(|_| care.is_none()),
            care,
            finds: self.finds,
            awaited: Arc::clone(&self.awaited),
        };
        let (due, time_is_known) = (self.due(), self.has_begun);
        let chunk = Chunk::at(self.place.clone(), !self.is_snapshot)
            .with_buffer(self.context.buffers.take());
        self.reading.spawn(async move {
            tokio::time::sleep_until(due).await;
            Box::pin(read.run(chunk, time_is_known)).await
        });
    }

    /// When the next chunk may be read, under `resync.documents_per_second_max`.
    fn due(&self) -> Instant {
        let limit = self.context.settings.resync.documents_per_second_max;
        if limit == 0 {
            return Instant::now();
        }
        let read = u32::try_from(self.documents_read - self.read_before).unwrap_or(u32::MAX);
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        self.begun + Duration::from_secs_f64(f64::from(read) / f64::from(limit))
    }

    /// The live stream wrote these rows.
    pub fn touch(&mut self, work: &Work) {
        if self.touched.len() <= TOUCHED_MAX {
            self.touched.extend(work.keys().map(str::to_owned));
        }
    }

    /// The live stream has come to an event of this time.
    pub fn passed(&mut self, at: Option<ClusterTime>) {
        self.time = self.time.max(at);
    }

    /// Waits for the chunk being read; begins to read the one after it. Safe to cancel.
    pub async fn next(&mut self) -> Result<ResyncPart, Fault> {
        loop {
            if self.reading.is_empty() {
                self.ask();
            }
            let awaiting = Awaiting::new(&self.awaited);
            let joined = self.reading.join_next().await;
            drop(awaiting);
            let Answer { chunk, read_until, checksums, care, in_hand } =
                joined.and_then(Result::ok).unwrap_or_else(|| {
                    Err(Fault::bug("the task that reads chunks ended without a chunk"))
                })?;
            (self.checksums, self.care, self.in_hand) = (checksums, care, in_hand);
            if self.touched.len() > TOUCHED_MAX {
                self.ask();
                continue;
            }
            return Ok(self.ready(chunk, read_until));
        }
    }

    fn ready(&mut self, mut chunk: Chunk, read_until: ClusterTime) -> ResyncPart {
        if !self.touched.is_empty() {
            chunk.rows.without(|id| self.touched.contains(id));
        }
        self.time = self.time.max(chunk.operation_time);
        self.has_begun = true;
        self.documents_read += chunk.documents;
        self.place = chunk.place;
        let completed = self.place.is_end();
        if !completed && self.care.is_none() {
            self.ask();
        }
        let then = match (completed, self.is_snapshot) {
            (false, _) => Then::MoreChunks,
            (true, true) => Then::Nothing,
            (true, false) => Then::Sweep,
        };
        let step = WalkStep::Chunk {
            class: self.place.class(),
            after: self.place.after().map(<[u8]>::to_vec),
            documents_read: self.documents_read,
            seen: chunk.seen,
            then,
            renews: self.renews,
        };
        let work = Work {
            fresh: if self.is_snapshot { chunk.rows.len() } else { 0 },
            known: chunk.known,
            rows: chunk.rows,
            dead: chunk.dead,
            walk: Some(Walk { id: self.id, step }),
            events: chunk.documents,
            ahead: Some(read_until),
            origins: Origins::Documents(chunk.replies),
            ..Work::default()
        };
        ResyncPart { work, documents: chunk.documents, drift: chunk.drift }
    }

    /// A chunk was committed.
    pub fn committed(&mut self, documents: u64, rows: u64, took: Duration) {
        self.in_hand = None;
        self.finds = finds_after(self.finds, took);
        self.progressed(documents, rows);
    }

    /// Shows progress.
    pub fn progressed(&mut self, documents: u64, rows: u64) {
        let done = self.documents_read - self.read_before;
        let left = self.estimated.map(|all| all.saturating_sub(self.documents_read));
        let per_document =
            self.begun.elapsed().checked_div(u32::try_from(done).unwrap_or(u32::MAX));
        let time_left = left
            .zip(per_document)
            .map(|(n, each)| each.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX)));
        let eta = time_left
            .and_then(|left| Utc::now().checked_add_signed(chrono::Duration::from_std(left).ok()?));
        self.context.status.walked(documents, rows, eta);
        if self.logged.elapsed() > Duration::from_secs(10) {
            self.logged = Instant::now();
            let stream = &self.context.config.name;
            let seconds_left = time_left.map(|left| left.as_secs());
            tracing::info!(
                stream,
                documents = self.documents_read,
                estimated = self.estimated,
                seconds_left,
                "walking"
            );
        }
    }
}

/// Says that the writer waits for a chunk, for as long as this lives.
struct Awaiting<'a>(&'a AtomicBool);

impl<'a> Awaiting<'a> {
    fn new(awaited: &'a AtomicBool) -> Self {
        awaited.store(true, Ordering::Relaxed);
        Self(awaited)
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// How many finds the next chunk may hold, after one of so many took so long to write.
fn finds_after(finds: u64, took: Duration) -> u64 {
    if took > WRITE_TIME {
        (finds / 2).max(1)
    } else if took < WRITE_TIME * 2 / 5 {
        (finds * 2).min(FINDS_MAX)
    } else {
        finds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_while_writing_them_is_quick_and_shrink_when_it_holds_up_the_stream() {
        let after = |per_find: u64, times: usize| {
            (0..times)
                .fold(1, |finds, _| finds_after(finds, Duration::from_millis(per_find * finds)))
        };
        assert_eq!(after(1, 3), FINDS_MAX);
        assert_eq!(after(1, 9), FINDS_MAX);
        assert_eq!(after(50, 9), 2, "of 50 ms each, four would be 200 ms");
        assert_eq!(after(1_000, 9), 1, "one find is the least");
        assert_eq!(finds_after(8, Duration::from_millis(400)), 4);
        // Where it settles it stays: what was doubled does not come back at once.
        for per_find in 1..500 {
            let settled = after(per_find, 20);
            assert_eq!(after(per_find, 21), settled, "{per_find} ms");
        }
    }
}
