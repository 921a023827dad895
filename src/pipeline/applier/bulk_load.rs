//! Chunks of a first snapshot go into one transaction, and one COPY, for as long as nobody waits
//! for its end.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Applier, Batches};
use crate::apply::{Applied, Drift, Origins, Walk, Work};
use crate::error::Fault;
use crate::model::step::Step;
use crate::pipeline::context::retry;
use crate::pipeline::resync::{Job, Piece};
use crate::postgres::Trouble;
use crate::status::Committed;

/// A transaction takes chunks no longer than this: so much is read anew after a kill.
const POUR_TIME: Duration = Duration::from_millis(500);

/// Nor longer than this once a batch waits.
const POUR_TIME_BESIDE_A_BATCH: Duration = Duration::from_millis(200);

/// A chunk that takes longer than this to come goes into the next transaction: none is kept open
/// for a slow source.
const PATIENCE: Duration = Duration::from_millis(100);

/// What was poured.
#[derive(Default)]
struct Poured {
    documents: u64,
    drifts: Vec<Drift>,
}

impl Piece {
    pub(super) fn may_be_poured(&self) -> bool {
        self.work.walk.as_ref().is_some_and(Walk::may_be_poured)
    }
}

impl Applier<'_> {
    /// Commits a chunk with those that come after it.
    pub(super) async fn pour(&mut self, first: Piece, batches: &Batches) -> Result<(), Fault> {
        self.batch_has_the_turn = true;
        let Some(job) = &mut self.job else { return Err(Fault::bug("a chunk of no walk")) };
        let (sender, chunks) = mpsc::channel(1);
        let mut poured = Poured::default();
        let pouring = async {
            tokio::join!(
                self.writer.pour(chunks, &self.context.buffers),
                feed(job, first, batches, sender, &mut poured)
            )
        };
        let (done, next) = tokio::select! {
            biased;
            () = self.signals.lost.cancelled() => return Err(Fault::fenced(self.lease.stream())),
            both = pouring => both,
        };
        match done {
            Ok(applied) => self.poured(&poured, &applied).await,
            // Chunk by chunk it is found out what is refused.
            Err(Trouble::Refused(_)) => return self.take_up_again(None).await,
            Err(Trouble::Failed(fault)) => return self.take_up_again(Some(fault)).await,
        }
        match next? {
            Some(piece) => self.piece(piece).await,
            None => Ok(()),
        }
    }

    async fn poured(&mut self, poured: &Poured, applied: &Applied) {
        self.proved().await;
        for drift in &poured.drifts {
            self.tell_drift(drift);
        }
        self.context.status.committed(&Committed {
            of_walk: true,
            rows_changed: applied.rows_changed,
            dead_letters: applied.set_aside.by_code.clone(),
            ..Committed::default()
        });
        if let Some(job) = &mut self.job {
            job.poured(poured.documents, applied.rows_changed);
        }
    }

    /// What was poured is gone with its transaction, or is in the table after all: the walk goes on
    /// from where the database says it is, chunk by chunk from now on, each of which is kept until
    /// it is committed.
    async fn take_up_again(&mut self, mut trouble: Option<Fault>) -> Result<(), Fault> {
        (self.job, self.pours) = (None, false);
        let signals = self.signals;
        let job = retry!(self.context, Step::Apply, async {
            let job = match trouble.take() {
                Some(trouble) => Err(trouble),
                None => self.stored_job().await,
            };
            job.inspect_err(|fault| self.context.status.commit_failed(fault))
        }, until signals.end());
        self.job = Some(job.map_err(|fault| self.gave_up(fault))?);
        Ok(())
    }

    async fn stored_job(&mut self) -> Result<Job, Fault> {
        self.writer.settle().await?;
        let walk = self.context.checkpoints.open_walk(&self.context.config.name).await?;
        let walk = walk
            .ok_or_else(|| Fault::bug("the walk ended though chunks of it were to be committed"))?;
        Ok(Job::take_up(self.context, &walk, self.reached.subscribe(), None))
    }
}

/// Sends chunks until the transaction has lasted long enough; returns a piece that has to be
/// committed by itself, if it came to one.
async fn feed(
    job: &mut Job,
    first: Piece,
    batches: &Batches,
    sender: mpsc::Sender<Work>,
    poured: &mut Poured,
) -> Result<Option<Piece>, Fault> {
    let begun = Instant::now();
    let mut piece = first;
    loop {
        poured.documents += piece.documents;
        poured.drifts.push(piece.drift);
        // A row that is refused is read again: what it was made from need not be held meanwhile.
        piece.work.origins = Origins::None;
        // Whoever does not take it says why.
        let (Ok(()), Ok(room)) = (sender.send(piece.work).await, sender.reserve().await) else {
            return Ok(None);
        };
        drop(room);
        let time = if batches.is_empty() { POUR_TIME } else { POUR_TIME_BESIDE_A_BATCH };
        let until = (begun + time).min(Instant::now() + PATIENCE);
        piece = tokio::select! {
            biased;
            () = tokio::time::sleep_until(until) => return Ok(None),
            next = job.next() => next?,
        };
        if !piece.may_be_poured() {
            return Ok(Some(piece));
        }
    }
}
