//! The applier: owns one group's state and is the only one to write for it.

mod bulk_load;
mod commits;
mod idle;
mod parking;
mod pieces;
mod step_over;
mod tell;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::parking::{leave_parked_out, left_out_at_start};
use super::care::Cares;
use super::context::{Ended, GroupContext, Signals};
use super::preparer::{Batch, prepare};
use super::reader::read;
use super::resync::Done;
use super::start::Started;
use super::walks::{OpenWalks, Part};
use crate::apply::{Calls, Commit, SlowTables, TableWriter, Writer};
use crate::batch::Piece;
use crate::error::{Code, Fault};
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::state::{Lease, Pause};

/// Follows until told to stop or stopped by trouble.
pub async fn run(
    group: &GroupContext,
    lease: &Lease,
    signals: &Signals,
    mut started: Started,
    cares: Cares,
) -> Ended {
    let mut cares = cares;
    let live = cares.live.take();
    let mut applier = Applier::new(group, lease, signals, &mut started, cares);
    if let Some(care) = live {
        started.change_stream = None;
        match Box::pin(applier.step_over(care, &mut started.position)).await {
            Ok(()) => {}
            Err(Stopped::Again) => return Ended::Again,
            Err(Stopped::By(fault)) => return Ended::of(fault),
        }
    }
    let (reply_sender, replies) = mpsc::channel(1);
    let (batch_sender, batches) = mpsc::channel(1);
    // Aborted when this function returns, in whatever way.
    let mut tasks = JoinSet::new();
    let Started { position, change_stream, .. } = started;
    tasks.spawn(read(group.clone(), position.clone(), change_stream, reply_sender));
    let waits = applier.waits.clone();
    tasks.spawn(prepare(group.clone(), position, replies, batch_sender, waits));
    match applier.follow(batches).await {
        Ok(()) if signals.lost.is_cancelled() => Ended::Fenced,
        Ok(()) if signals.drain.is_cancelled() => Ended::Drained,
        Ok(()) => Ended::Commanded,
        Err(Stopped::Again) => Ended::Again,
        Err(Stopped::By(fault)) => Ended::of(fault),
    }
}

/// Whether a batch is the one that comes after what was taken, which then includes it.
fn follows(taken: &mut ResumeToken, batch: &Batch) -> Result<(), Fault> {
    if batch.follows != *taken {
        return Err(Fault::bug("a batch does not follow the one before it"));
    }
    if let Some(position) = &batch.commit.position {
        *taken = position.token.clone();
    }
    Ok(())
}

/// Why an applier goes on no more.
enum Stopped {
    By(Fault),
    /// The group is to be taken up anew.
    Again,
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::By(fault)
    }
}

struct Applier<'a> {
    group: &'a GroupContext,
    signals: &'a Signals,
    lease: &'a Lease,
    writer: Writer,
    walks: OpenWalks,
    /// By stream: the cluster time up to which its rows may be, whatever the position says.
    ahead: Vec<ClusterTime>,
    /// By stream: the time of the latest of its walk's reads.
    reads: Vec<ClusterTime>,
    /// By stream: whether its table is what the source was at the position, as last shown.
    exact: Vec<Option<bool>>,
    /// By stream: why the group goes on without it, if it does.
    parked: Vec<Option<Code>>,
    /// Those of them that a person told to stop for a while.
    paused: Vec<(usize, Pause)>,
    /// Looks when a stream that is left out may go on.
    prober: JoinSet<()>,
    /// The streams' phases as the database knows them.
    noted: Vec<Option<Phase>>,
    /// One of them may have changed.
    is_to_be_noted: bool,
    /// The position that is committed.
    committed: ClusterTime,
    /// A position read while the group is silent, not yet durable.
    idle: Option<Position>,
    /// The position after everything taken from the preparer.
    taken: ResumeToken,
    /// The time of that position, once everything up to it is applied.
    reached: watch::Sender<ClusterTime>,
    /// Calls to commit an idle position with other groups.
    calls: Calls,
    /// When a position was made durable last: chunks of a walk are none.
    positioned_at: Instant,
    /// Who writes next, if both the live stream and a walk have something to write.
    turn: Turn,
    /// There is nothing to write: what comes need not linger.
    waits: watch::Sender<bool>,
    /// What the tables took lately.
    slow_tables: SlowTables,
    /// Streams that were parked lately because their tables were slow.
    slow: Vec<(usize, Instant)>,
    /// The table that is looked at next with an idle commit.
    looked: usize,
    /// The database says that the group is halted, which the first commit shows to be over.
    was_halted: bool,
}

/// Batches of the live stream and parts of walks are written in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Batch,
    Walk,
}

type Batches = mpsc::Receiver<Result<Batch, Fault>>;

impl<'a> Applier<'a> {
    fn new(
        group: &'a GroupContext,
        lease: &'a Lease,
        signals: &'a Signals,
        started: &mut Started,
        mut cares: Cares,
    ) -> Self {
        group.status.placed(&started.position);
        let tables = group.streams.iter().map(|stream| {
            TableWriter::new(
                stream.config.name.clone(),
                Arc::clone(&stream.mapping),
                stream.statements.clone(),
                stream.settings.record,
            )
        });
        let writer =
            Writer::new(group.target.clone(), group.state.clone(), lease.clone(), tables.collect())
                .at(started.revision)
                .with(group.together.clone());
        let reached = watch::Sender::new(started.position.cluster_time);
        let parked = left_out_at_start(group, &started.left_out);
        let mut reads = vec![ClusterTime::default(); group.streams.len()];
        for (stream, row) in &started.walks {
            if let Some(read) = reads.get_mut(*stream) {
                *read = row.read_until.map(ClusterTime::from_sql).unwrap_or_default();
            }
        }
        let walks = std::mem::take(&mut started.walks);
        let walks = walks.into_iter().map(|(stream, row)| {
            let care = cares.walks.remove(&row.id);
            (stream, row, care)
        });
        let walks = OpenWalks::new(group, walks.collect(), reached.subscribe());
        // Its streams say by now which of them are parked, or wait for a walk.
        group.status.entered(Phase::Streaming);
        let mut applier = Self {
            group,
            signals,
            lease,
            writer,
            walks,
            ahead: std::mem::take(&mut started.ahead),
            reads,
            exact: vec![None; group.streams.len()],
            parked,
            paused: std::mem::take(&mut started.left_out.paused),
            prober: JoinSet::new(),
            noted: vec![None; group.streams.len()],
            is_to_be_noted: true,
            committed: started.position.cluster_time,
            idle: None,
            taken: started.position.token.clone(),
            reached,
            calls: Calls::of(group.together.as_ref()),
            positioned_at: Instant::now(),
            turn: Turn::Walk,
            waits: watch::Sender::new(false),
            slow_tables: SlowTables::new(group.streams.len(), std::time::Instant::now()),
            slow: Vec::new(),
            looked: 0,
            was_halted: started.was_halted,
        };
        applier.show_exact();
        applier
    }

    /// The loop. Batches keep the position fresh however long walks take; parts of walks end them
    /// however busy the live stream is. The arms stand in the order of their priority.
    async fn follow(&mut self, mut batches: Batches) -> Result<(), Stopped> {
        let idle_interval = self.group.settings.checkpoint.idle_interval;
        // What keeps it from connecting is met again, and waited out, when there is something to
        // write.
        let _ = self.writer.open().await;
        self.probe();
        loop {
            if !self.walks.is_filled() {
                self.walks.fill(self.lease).await?;
                self.is_to_be_noted = true;
            }
            // A walk wrote last: a batch that is ready comes before its next part.
            if self.turn == Turn::Batch
                && let Ok(batch) = batches.try_recv()
            {
                self.take(batch?, &mut batches).await?;
                continue;
            }
            // An idle position that is due would age while a walk always has another part.
            let idle_due = self.positioned_at + idle_interval;
            if (self.makes_exact() || self.idle.is_some() && idle_due <= Instant::now())
                && !self.signals.lost.is_cancelled()
            {
                self.commit_idle().await?;
                continue;
            }
            self.waits.send_replace(batches.is_empty());
            tokio::select! {
                biased;
                // Another process may lead the group: nothing more is written.
                () = self.signals.lost.cancelled() => return Ok(()),
                // What asks for an end comes before anything new is begun.
                () = self.signals.drain.cancelled() => {
                    self.group.status.entered(Phase::Draining);
                    return self.drain().await.map_err(Stopped::By);
                }
                () = self.signals.commanded.cancelled() => {
                    return self.drain().await.map_err(Stopped::By);
                }
                // A parked stream may go on, or a pause is over.
                Some(_) = self.prober.join_next() => {
                    self.drain().await?;
                    return Err(Stopped::Again);
                }
                // A walk comes before a batch: either it has the turn, or no batch was ready.
                part = self.walks.next(), if !self.walks.is_empty() => {
                    self.walked(part, &batches).await?;
                }
                batch = batches.recv() => match batch {
                    Some(batch) => self.take(batch?, &mut batches).await?,
                    None => return Err(Fault::bug("the preparer ended without a word").into()),
                },
                () = self.signals.hurry.notified(), if self.idle.is_some() => {
                    self.commit_idle().await?;
                }
                // Another group commits an idle position: this one goes with it.
                () = self.calls.next(), if self.idle.is_some() => {
                    if self.positioned_at.elapsed() > idle_interval / 2 {
                        self.commit_idle().await?;
                    }
                }
                // Only wakes the loop, which commits the idle position above.
                () = tokio::time::sleep_until(idle_due), if self.idle.is_some() => {}
            }
        }
    }

    /// A batch, or the pieces that begin with it.
    async fn take(&mut self, batch: Batch, batches: &mut Batches) -> Result<(), Stopped> {
        if batch.piece == Piece::More {
            return Box::pin(self.pieces(batch, batches)).await;
        }
        self.batch(batch).await?;
        // Nothing is bound any more to collections that no stream follows.
        if self.group.lets_others_through() && self.group.is_freed.load(Ordering::Relaxed) {
            self.drain().await?;
            return Err(Stopped::Again);
        }
        Ok(())
    }

    async fn batch(&mut self, mut batch: Batch) -> Result<(), Fault> {
        self.turn = Turn::Walk;
        follows(&mut self.taken, &batch)?;
        leave_parked_out(self.group, &self.parked, &mut batch);
        batch.commit.parked.append(&mut batch.stops);
        if batch.commit.events() > 0
            || !batch.commit.parked.is_empty()
            || batch.commit.amid.is_some()
        {
            let begun = Instant::now();
            let mut commit = std::mem::take(&mut batch.commit);
            let applied = self.apply(&mut commit).await?;
            self.idle = None;
            self.walks.touch(&commit);
            self.walks.passed(batch.last_event);
            self.tell(&batch, &commit, &applied, begun.elapsed());
            self.park_slow(&commit, &applied).await?;
            batch.commit = commit;
        } else if let Some(position) = &batch.commit.position {
            self.idle = Some(position.clone());
        }
        if let Some(position) = &batch.commit.position {
            self.reached.send_replace(position.cluster_time);
        }
        for work in batch.commit.works {
            self.group.buffers.give(work.rows);
        }
        if batch.is_of_ours && batch.events > 0 {
            self.group.is_freed.store(true, Ordering::Relaxed);
        }
        batch.halt.map_or(Ok(()), Err)
    }

    /// What a walk hands on: a part to be written, or why it cannot go on.
    async fn walked(
        &mut self,
        part: Result<Part, (usize, Fault)>,
        batches: &Batches,
    ) -> Result<(), Stopped> {
        let part = match part {
            Ok(part) => part,
            Err((stream, fault)) if self.may_park(stream, &fault) => {
                return self.park_alone(stream, fault).await.map_err(Stopped::By);
            }
            Err((_, fault)) => return Err(fault.into()),
        };
        if self.walks.bulk_loads(part.stream) && part.part.may_be_bulk_loaded() {
            Box::pin(self.bulk_load(part, batches)).await.map_err(Stopped::By)
        } else {
            self.walk_part(part).await.map_err(Stopped::By)
        }
    }

    async fn walk_part(&mut self, mut part: Part) -> Result<(), Fault> {
        self.turn = Turn::Batch;
        let begun = Instant::now();
        let mut commit = Commit::of(std::mem::take(&mut part.part.work));
        let applied = self.apply(&mut commit).await?;
        // It was parked with it.
        let is_slow = applied.first().and_then(|done| self.holds_up(part.stream, done));
        let (Some(work), Some(applied)) = (commit.works.pop(), applied.into_iter().next()) else {
            return Ok(());
        };
        part.part.work = work;
        self.tell_part(&part, &applied);
        let done = self.walks.committed(&part, &applied, begun.elapsed()).await;
        self.group.buffers.give(part.part.work.rows);
        if done == Done::Completed {
            self.completed(part.stream).await;
        }
        match is_slow {
            Some(fault) => self.park_alone(part.stream, fault).await,
            None => Ok(()),
        }
    }
}
