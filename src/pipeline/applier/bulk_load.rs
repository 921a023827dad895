//! Chunks of a first snapshot go into one transaction, and one COPY, for as long as nobody waits
//! for its end.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::tell::tell_drift;
use super::{Applier, Batches, Turn};
use crate::apply::{Applied, Drift, Origins, Walk, Work};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::model::step::Step;
use crate::pipeline::context::retry;
use crate::pipeline::resync::OpenResync;
use crate::pipeline::walker::ResyncPart;
use crate::pipeline::walks::Part;
use crate::postgres::Trouble;
use crate::state::WalkRow;
use crate::status::Committed;

/// A transaction takes chunks no longer than this: so much is read anew after a kill.
const LOAD_TIME: Duration = Duration::from_millis(500);

/// A transaction takes chunks no longer than this once a batch waits.
const LOAD_TIME_BESIDE_A_BATCH: Duration = Duration::from_millis(200);

/// A chunk that takes longer than this to come goes into the next transaction: none is kept open
/// for a slow source.
const PATIENCE: Duration = Duration::from_millis(100);

/// What was sent into the transaction, to be told once it is committed.
#[derive(Default)]
struct Loaded {
    documents: u64,
    drifts: Vec<Drift>,
    /// The time of the latest of the reads.
    read_until: Option<ClusterTime>,
}

impl ResyncPart {
    pub(super) fn may_be_bulk_loaded(&self) -> bool {
        self.work.walk.as_ref().is_some_and(Walk::may_be_bulk_loaded)
    }
}

impl Applier<'_> {
    /// Commits a chunk with those that come after it.
    pub(super) async fn bulk_load(&mut self, first: Part, batches: &Batches) -> Result<(), Fault> {
        self.turn = Turn::Batch;
        let stream = first.stream;
        let Some(resync) = self.walks.resync(stream) else {
            return Err(Fault::bug("a chunk of no walk"));
        };
        let (sender, chunks) = mpsc::channel(1);
        let mut loaded = Loaded::default();
        let loading = async {
            tokio::join!(
                self.writer.bulk_load(stream, chunks, &self.group.buffers),
                send_chunks(resync, first.part, batches, sender, &mut loaded)
            )
        };
        let (done, next) = tokio::select! {
            biased;
            () = self.signals.lost.cancelled() => return Err(Fault::fenced(self.lease.group())),
            both = loading => both,
        };
        match done {
            Ok(applied) => self.tell_loaded(stream, &loaded, &applied).await,
            // Chunk by chunk the writer finds out which row is refused.
            Err(Trouble::Refused(_)) => return self.take_up_again(stream, None).await,
            Err(Trouble::Failed(fault)) => return self.take_up_again(stream, Some(fault)).await,
        }
        match next? {
            Some(mut part) => {
                part.work.stream = stream;
                self.walk_part(Part { stream, part }).await
            }
            None => Ok(()),
        }
    }

    async fn tell_loaded(&mut self, stream: usize, loaded: &Loaded, applied: &Applied) {
        self.note_phases().await;
        if let Some(read) = self.reads.get_mut(stream) {
            *read = (*read).max(loaded.read_until.unwrap_or_default());
        }
        let Some(context) = self.group.streams.get(stream) else { return };
        for drift in &loaded.drifts {
            tell_drift(context, drift);
        }
        context.status.committed(&Committed {
            of_walk: true,
            rows_changed: applied.rows_changed,
            dead_letters: applied.set_aside.by_code.clone(),
            ..Committed::default()
        });
        if let Some(resync) = self.walks.resync(stream) {
            resync.bulk_loaded(loaded.documents, applied.rows_changed);
        }
    }

    /// What was sent is gone with its transaction, or is in the table after all: the walk goes on
    /// from where the database says it is, chunk by chunk from now on, each of which is kept until
    /// it is committed.
    async fn take_up_again(
        &mut self,
        stream: usize,
        mut trouble: Option<Fault>,
    ) -> Result<(), Fault> {
        self.walks.remove(stream);
        let signals = self.signals;
        let row = retry!(self.group, Step::Apply, async {
            let row = match trouble.take() {
                Some(trouble) => Err(trouble),
                None => self.stored_walk(stream).await,
            };
            row.inspect_err(|fault| self.group.status.commit_failed(fault))
        }, until signals.end());
        let row = match row {
            Ok(row) => row,
            Err(fault) if self.may_park(stream, &fault) => {
                return self.park_alone(stream, fault).await;
            }
            Err(fault) => return Err(self.gave_up(fault)),
        };
        self.walks.take_up_again(stream, &row);
        Ok(())
    }

    async fn stored_walk(&mut self, stream: usize) -> Result<WalkRow, Fault> {
        self.writer.settle().await?;
        let Some(context) = self.group.streams.get(stream) else {
            return Err(Fault::bug("a walk of no stream of the group"));
        };
        let walk = self.group.state.open_walk(&context.config.name).await?;
        walk.ok_or_else(|| Fault::bug("the walk ended though chunks of it were to be committed"))
    }
}

/// Sends chunks until the transaction has lasted long enough. Returns a part that has to be
/// committed by itself, if it came to one.
async fn send_chunks(
    resync: &mut OpenResync,
    first: ResyncPart,
    batches: &Batches,
    sender: mpsc::Sender<Work>,
    loaded: &mut Loaded,
) -> Result<Option<ResyncPart>, Fault> {
    let begun = Instant::now();
    let mut part = first;
    loop {
        loaded.documents += part.documents;
        loaded.drifts.push(part.drift);
        loaded.read_until = loaded.read_until.max(part.work.ahead);
        // A row that is refused is read again, so its document need not be held meanwhile.
        part.work.origins = Origins::None;
        // Where the writer takes no more chunks it has failed, and its result says why.
        let (Ok(()), Ok(room)) = (sender.send(part.work).await, sender.reserve().await) else {
            return Ok(None);
        };
        drop(room);
        let time = if batches.is_empty() { LOAD_TIME } else { LOAD_TIME_BESIDE_A_BATCH };
        let until = (begun + time).min(Instant::now() + PATIENCE);
        part = tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => return Ok(None),
            next = resync.next() => next?,
        };
        if !part.may_be_bulk_loaded() {
            return Ok(Some(part));
        }
    }
}
