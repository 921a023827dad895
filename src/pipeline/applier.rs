//! The applier: owns one stream's state and is the only one to write for it.

mod bulk_load;
mod step_over;

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::care::{Care, Cares};
use super::context::{Context, Ended, Signals, retry};
use super::preparer::{Batch, prepare};
use super::reader::read;
use super::resync::{Done, OpenResync};
use super::start::Started;
use super::walker::ResyncPart;
use crate::apply::{Applied, Drift, Work, Writer};
use crate::error::{Class, Fault};
use crate::model::phase::{Happened, Phase};
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::model::step::Step;
use crate::state::Lease;
use crate::status::{Committed, FieldsSeen};

/// Follows until told to stop or stopped by trouble.
pub async fn run(
    context: &Context,
    lease: &Lease,
    signals: &Signals,
    mut started: Started,
    cares: Cares,
) -> Ended {
    let mut applier = Applier::new(context, lease, signals, &started, cares.walk);
    if let Some(care) = cares.live {
        started.change_stream = None;
        if let Err(fault) = Box::pin(applier.step_over(care, &mut started.position)).await {
            return Ended::of(fault);
        }
    }
    let (reply_sender, replies) = mpsc::channel(1);
    let (batch_sender, batches) = mpsc::channel(1);
    // Aborted when this function returns, in whatever way.
    let mut tasks = JoinSet::new();
    let Started { position, change_stream, .. } = started;
    tasks.spawn(read(context.clone(), position.clone(), change_stream, reply_sender));
    tasks.spawn(prepare(context.clone(), position, replies, batch_sender));
    match applier.follow(batches).await {
        Ok(()) if signals.lost.is_cancelled() => Ended::Fenced,
        Ok(()) if signals.drain.is_cancelled() => Ended::Drained,
        Ok(()) => Ended::Commanded,
        Err(fault) => Ended::of(fault),
    }
}

struct Applier<'a> {
    context: &'a Context,
    signals: &'a Signals,
    lease: &'a Lease,
    writer: Writer,
    /// Under way, or held.
    resync: Option<OpenResync>,
    phase: Phase,
    /// A position read while the stream is silent, not yet durable.
    idle: Option<Position>,
    /// The position after everything taken from the preparer.
    taken: ResumeToken,
    /// The time of that position, once everything up to it is applied.
    reached: watch::Sender<ClusterTime>,
    /// When a position was made durable last: chunks of a walk are none.
    positioned_at: Instant,
    /// The database knows the phase: noted with the first commit, when the stream has proved to be
    /// in it.
    phase_noted: bool,
    /// Who writes next, if both the stream and its resync have something to write.
    turn: Turn,
    /// Chunks of a first snapshot may go into one transaction: their rate is not limited, it has
    /// not failed, and no process has died of it.
    bulk_loads: bool,
}

/// Batches of the live stream and parts of its resync are written in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Batch,
    Resync,
}

type Batches = mpsc::Receiver<Result<Batch, Fault>>;

impl<'a> Applier<'a> {
    fn new(
        context: &'a Context,
        lease: &'a Lease,
        signals: &'a Signals,
        started: &Started,
        care: Option<Care>,
    ) -> Self {
        context.status.placed(&started.position);
        context.enter(started.phase);
        let writer = Writer::new(
            context.target.clone(),
            context.state.clone(),
            lease.clone(),
            context.config.columns.clone(),
            context.statements.clone(),
            context.settings.record,
        )
        .at(started.revision);
        let bulk_loads = context.settings.resync.documents_per_second_max == 0 && care.is_none();
        let reached = watch::Sender::new(started.position.cluster_time);
        let take_up = |walk| OpenResync::take_up(context, walk, reached.subscribe(), care);
        let resync = started.walk.as_ref().map(take_up);
        Self {
            context,
            signals,
            lease,
            writer,
            resync,
            phase: started.phase,
            idle: None,
            taken: started.position.token.clone(),
            reached,
            positioned_at: Instant::now(),
            phase_noted: false,
            turn: Turn::Resync,
            bulk_loads,
        }
    }

    /// The loop. Batches keep the position fresh however long a resync takes; parts of the resync
    /// end it however busy the stream is. The arms stand in the order of their priority.
    async fn follow(&mut self, mut batches: Batches) -> Result<(), Fault> {
        let idle_interval = self.context.settings.checkpoint.idle_interval;
        // What keeps it from connecting is met again, and waited out, when there is something to
        // write.
        let _ = self.writer.open().await;
        loop {
            // The resync wrote last: a batch that is ready comes before its next part.
            if self.turn == Turn::Batch
                && let Ok(batch) = batches.try_recv()
            {
                self.batch(batch?).await?;
                continue;
            }
            // An idle position that is due would age while the resync always has another part.
            let idle_due = self.positioned_at + idle_interval;
            if self.idle.is_some()
                && idle_due <= Instant::now()
                && !self.signals.lost.is_cancelled()
            {
                self.commit_idle().await?;
                continue;
            }
            tokio::select! {
                biased;
                // Another process may lead the stream: nothing more is written.
                () = self.signals.lost.cancelled() => return Ok(()),
                // What asks for an end comes before anything new is begun.
                () = self.signals.drain.cancelled() => {
                    self.happened(Happened::ToldToStop);
                    return self.drain().await;
                }
                () = self.signals.commanded.cancelled() => return self.drain().await,
                // The resync comes before a batch: either it has the turn, or no batch was ready.
                part = next_part(&mut self.resync), if self.resync.is_some() => {
                    let part = part?;
                    if self.bulk_loads && part.may_be_bulk_loaded() {
                        Box::pin(self.bulk_load(part, &batches)).await?;
                    } else {
                        self.resync_part(part).await?;
                    }
                }
                batch = batches.recv() => match batch {
                    Some(batch) => self.batch(batch?).await?,
                    None => return Err(Fault::bug("the preparer ended without a word")),
                },
                // Only wakes the loop, which commits the idle position above.
                () = tokio::time::sleep_until(idle_due), if self.idle.is_some() => {}
            }
        }
    }

    async fn batch(&mut self, mut batch: Batch) -> Result<(), Fault> {
        self.turn = Turn::Resync;
        batch.work.beside = self.resync.as_ref().and_then(OpenResync::beside);
        let Batch { work, halt, follows, .. } = &batch;
        if follows.as_ref() != Some(&self.taken) {
            return Err(Fault::bug("a batch does not follow the one before it"));
        }
        if let Some(position) = &work.position {
            self.taken = position.token.clone();
        }
        if work.events > 0 {
            let begun = Instant::now();
            let applied = self.apply(work).await?;
            self.idle = None;
            if let Some(resync) = &mut self.resync {
                resync.touch(work, batch.last_event);
            }
            self.tell(&batch, &applied, begun.elapsed());
        } else if let Some(position) = &work.position {
            self.idle = Some(position.clone());
        }
        if let Some(position) = &batch.work.position {
            self.reached.send_replace(position.cluster_time);
        }
        let halt = halt.clone();
        self.context.buffers.give(batch.work.rows);
        halt.map_or(Ok(()), Err)
    }

    async fn resync_part(&mut self, part: ResyncPart) -> Result<(), Fault> {
        self.turn = Turn::Batch;
        let begun = Instant::now();
        let applied = self.apply(&part.work).await?;
        self.tell_drift(&part.drift);
        let dead_letters = applied.set_aside.by_code.clone();
        self.context.status.committed(&Committed {
            of_walk: true,
            rows_changed: applied.rows_changed + applied.rows_deleted,
            rows_unchanged: applied.rows_unchanged,
            dead_letters,
            ..Committed::default()
        });
        let Some(resync) = &mut self.resync else { return Ok(()) };
        let done = resync.committed(&part, &applied, begun.elapsed()).await;
        self.context.buffers.give(part.work.rows);
        match done {
            Done::More => {}
            Done::Held => {
                self.note_phase().await;
            }
            Done::Completed => {
                self.resync = None;
                self.happened(Happened::WalkCompleted);
                self.note_phase().await;
            }
        }
        Ok(())
    }

    async fn commit_idle(&mut self) -> Result<(), Fault> {
        let work = Work { position: self.idle.take(), ..Work::default() };
        self.apply(&work).await?;
        self.context
            .status
            .committed(&Committed { position: work.position.as_ref(), ..Committed::default() });
        Ok(())
    }

    /// What was begun is finished already; the last idle position is made durable. Where the target
    /// is away just then nothing is lost: what comes after the stored position is read again.
    async fn drain(&mut self) -> Result<(), Fault> {
        let Some(position) = self.idle.take() else { return Ok(()) };
        let work = Work { position: Some(position), ..Work::default() };
        match self.writer.apply(&work).await {
            Err(fault) if fault.class.may_retry() => {
                tracing::info!(
                    stream = self.lease.stream(),
                    "idle position not committed: {fault}"
                );
                Ok(())
            }
            applied => applied.map(drop),
        }
    }

    /// Commits, over as many attempts as it takes. Told to stop or fenced meanwhile, it gives up.
    async fn apply(&mut self, work: &Work) -> Result<Applied, Fault> {
        let signals = self.signals;
        let applied = retry!(self.context, Step::Apply, self.try_apply(work), until signals.end());
        let applied = applied.map_err(|fault| self.gave_up(fault))?;
        self.context.status.paced(self.writer.rows_at_once());
        if work.position.is_some() {
            self.positioned_at = Instant::now();
        }
        self.proved().await;
        Ok(applied)
    }

    async fn try_apply(&mut self, work: &Work) -> Result<Applied, Fault> {
        let applied = tokio::select! {
            biased;
            () = self.signals.lost.cancelled() => Err(Fault::fenced(self.lease.stream())),
            result = self.writer.apply(work) => result,
        };
        applied.inspect_err(|fault| self.context.status.commit_failed(fault))
    }

    /// Something was committed, so the stream is in the phase that is shown: written down once.
    async fn proved(&mut self) {
        if !std::mem::replace(&mut self.phase_noted, true) {
            self.note_phase().await;
        }
    }

    /// What ends the pipeline where no other try is made. If one could be, the pipeline was told to
    /// end while the target is away: nothing more can be committed here, and nothing is lost by it.
    fn gave_up(&self, fault: Fault) -> Fault {
        if !fault.class.may_retry() {
            fault
        } else if self.signals.lost.is_cancelled() {
            Fault::fenced(self.lease.stream())
        } else {
            Fault { class: Class::Halt, ..fault }
        }
    }

    fn happened(&mut self, happened: Happened) {
        if let Some(phase) = self.phase.next(happened) {
            self.phase = phase;
            self.context.enter(phase);
        }
    }

    /// Writes the phase down for people who ask the database; the data path does not depend on it.
    async fn note_phase(&self) {
        let noted = self.context.state.note_phase(self.lease, self.phase, None).await;
        if let Err(fault) = noted {
            tracing::warn!(stream = self.lease.stream(), "phase not written down: {fault}");
        }
    }

    fn tell(&self, batch: &Batch, applied: &Applied, took: Duration) {
        self.tell_drift(&batch.drift);
        self.context.status.committed(&Committed {
            of_walk: false,
            received: batch.received,
            not_applied: applied.dead_by_operation,
            gone: batch.gone,
            rows_changed: applied.rows_changed + applied.rows_deleted,
            rows_unchanged: applied.rows_unchanged,
            dead_letters: applied.set_aside.by_code.clone(),
            position: batch.work.position.as_ref(),
            last_event: batch.last_event,
            written_at_millis: &batch.written_at_millis,
            took,
        });
    }

    fn tell_drift(&self, drift: &Drift) {
        if drift.is_empty() {
            return;
        }
        self.context.status.drifted(&FieldsSeen {
            documents: drift.documents,
            differ: drift
                .fields
                .iter()
                .map(|((column, kind), number)| (*column, *kind, *number))
                .collect(),
            presence: drift
                .presence
                .iter()
                .map(|presence| (presence.seen, presence.absent))
                .collect(),
            unmapped: &drift.unmapped,
            crowded: drift.crowded,
            replaced: drift.replaced,
        });
    }
}

async fn next_part(resync: &mut Option<OpenResync>) -> Result<ResyncPart, Fault> {
    match resync {
        Some(resync) => resync.next().await,
        None => std::future::pending().await,
    }
}
