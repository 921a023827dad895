//! What a stream does beside following: a walk, the sweep after it, or waiting for a person's word
//! about one of them.

use std::time::Duration;

use tokio::time::Instant;

use super::care::Care;
use super::context::Context;
use super::search::Reached;
use super::sweeper::Sweeper;
use super::walker::Walker;
use crate::apply::{Applied, Beside, Drift, Then, Walk, WalkStep, Work};
use crate::error::{Code, Fault};
use crate::model::position::ClusterTime;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::state::WalkRow;
use crate::status::ResyncReport;

/// The open walk of a stream.
pub struct Job {
    context: Context,
    row: WalkRow,
    reason: Reason,
    /// When a resync has lasted longer than it may.
    deadline: Option<Instant>,
    reached: Reached,
    work: Kind,
}

enum Kind {
    Walk(Box<Walker>),
    Sweep(Box<Sweeper>),
    Held,
}

/// Whom to tell what is left unwritten while a walk is open, in whatever state it is; a first
/// snapshot sweeps nothing.
pub fn beside(walk: &WalkRow) -> Option<Beside> {
    let beside = Beside { resync: walk.id, start: walk.start_time() };
    (!walk.is_snapshot()).then_some(beside)
}

/// Something to commit.
pub struct Piece {
    pub work: Work,
    pub documents: u64,
    pub drift: Drift,
}

/// What a committed piece came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    More,
    Held,
    Completed,
}

impl Job {
    /// Goes on where the row says the walk was, with care where processes have died.
    pub fn take_up(context: &Context, row: &WalkRow, reached: Reached, care: Option<Care>) -> Self {
        let number = |n: i64| u64::try_from(n).unwrap_or_default();
        context.status.walking(Some(ResyncReport {
            id: row.id,
            reason: row.reason(),
            state: row.state(),
            documents_read: number(row.documents_read),
            rows_upserted: number(row.rows_inserted + row.rows_changed),
            rows_deleted: number(row.rows_deleted),
            rows_to_delete: row.rows_to_delete.map(number),
            documents_estimated: row.documents_estimated.map(number),
            held_code: row.held_code.clone(),
            note: row.note.clone(),
            started_at: row.started_at,
            eta_at: None,
            deadline_at: row.deadline_at,
        }));
        let work = match row.state() {
            ResyncState::Running => Kind::Walk(Box::new(Walker::new(context, row, care))),
            ResyncState::Sweeping => {
                Kind::Sweep(Box::new(Sweeper::new(context, row, reached.clone(), None)))
            }
            _ => Kind::Held,
        };
        let left = row.seconds_left.map(|left| Duration::from_secs_f64(left.max(0.0)));
        Self {
            context: context.clone(),
            reason: row.reason(),
            row: row.clone(),
            deadline: left.map(|left| Instant::now() + left),
            reached,
            work,
        }
    }

    /// The next piece to commit. Safe to cancel.
    pub async fn next(&mut self) -> Result<Piece, Fault> {
        let deadline = self.deadline;
        let over_budget = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let id = self.row.id;
        match &mut self.work {
            Kind::Held => std::future::pending().await,
            Kind::Walk(walker) => tokio::select! {
                biased;
                () = over_budget => Ok(self.give_pause(id)),
                ready = walker.next() => ready.map(|r| Piece {
                    work: r.work,
                    documents: r.documents,
                    drift: r.drift,
                }),
            },
            Kind::Sweep(sweeper) => tokio::select! {
                biased;
                () = over_budget => Ok(self.give_pause(id)),
                work = sweeper.next() => work.map(|work| Piece {
                    work,
                    documents: 0,
                    drift: Drift::default(),
                }),
            },
        }
    }

    /// A resync that lasts longer than it may stops where it is: the stream goes on, the table
    /// stays readable.
    fn give_pause(&self, id: i64) -> Piece {
        let note = format!(
            "not completed within resync.duration_max = {:?}",
            self.context.settings.resync.duration_max
        );
        let step = WalkStep::Held { code: Code::ResyncOverBudget, note, rows_to_delete: None };
        let work = Work { walk: Some(Walk { id, step }), ..Work::default() };
        Piece { work, documents: 0, drift: Drift::default() }
    }

    /// See [`beside`].
    pub fn beside(&self) -> Option<Beside> {
        beside(&self.row)
    }

    /// The live stream met these rows.
    pub fn touch(&mut self, work: &Work, last_event: Option<ClusterTime>) {
        match &mut self.work {
            Kind::Walk(walker) => walker.touch(work, last_event),
            Kind::Sweep(sweeper) => sweeper.touch(work),
            Kind::Held => {}
        }
    }

    /// Chunks with more to come were committed: shows progress.
    pub fn poured(&mut self, documents: u64, rows: u64) {
        if let Kind::Walk(walker) = &mut self.work {
            walker.progressed(documents, rows);
        }
    }

    /// A piece was committed: shows progress, and goes over to what comes next.
    pub async fn committed(&mut self, piece: &Piece, applied: &Applied, took: Duration) -> Done {
        let status = &self.context.status;
        let step = piece.work.walk.as_ref().map(|walk| &walk.step);
        match step {
            Some(WalkStep::Chunk { then, documents_read, .. }) => {
                if let Kind::Walk(walker) = &mut self.work {
                    walker.committed(piece.documents, applied.rows_changed, took);
                }
                match then {
                    Then::MoreChunks => Done::More,
                    Then::Sweep => {
                        self.row.documents_read =
                            i64::try_from(*documents_read).unwrap_or(i64::MAX);
                        status.walk_state(ResyncState::Sweeping);
                        let connection = match std::mem::replace(&mut self.work, Kind::Held) {
                            Kind::Walk(walker) => walker.into_connection(),
                            Kind::Sweep(_) | Kind::Held => None,
                        };
                        let reached = self.reached.clone();
                        let sweeper = Sweeper::new(&self.context, &self.row, reached, connection);
                        self.work = Kind::Sweep(Box::new(sweeper));
                        Done::More
                    }
                    Then::Nothing => {
                        status.walk_ended(self.reason, ResyncState::Completed);
                        Done::Completed
                    }
                }
            }
            Some(WalkStep::Swept) | None => {
                status.swept(applied.rows_deleted);
                Done::More
            }
            Some(WalkStep::Held { code, note, rows_to_delete }) => {
                self.work = Kind::Held;
                status.walk_held(*code, note, *rows_to_delete);
                Done::Held
            }
            Some(WalkStep::Completed) => {
                self.report_gap().await;
                self.context.status.walk_ended(self.reason, ResyncState::Completed);
                Done::Completed
            }
        }
    }

    /// Says what was missed. The table has it; the log is for who reads along.
    async fn report_gap(&self) {
        match self.context.checkpoints.gap_report(self.row.id).await {
            Ok(Some(gap)) => tracing::info!(
                stream = %self.context.config.name,
                resync = self.row.id,
                reason = self.reason.name(),
                blind_from = gap.blind_from.map(|at| at.to_rfc3339()),
                blind_until = gap.blind_until.map(|at| at.to_rfc3339()),
                inserted = gap.rows_inserted,
                changed = gap.rows_changed,
                deleted = gap.rows_deleted,
                "gap report"
            ),
            Ok(None) => {}
            Err(fault) => {
                tracing::warn!(stream = %self.context.config.name, "gap report not read: {fault}")
            }
        }
    }
}
