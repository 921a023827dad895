//! The resync or first snapshot of a stream, beside following it: the walk, the sweep after it, or
//! waiting until a person lets one of them go on.

use std::time::Duration;

use tokio::time::Instant;

use super::care::Care;
use super::context::Context;
use super::search::Reached;
use super::sweeper::Sweeper;
use super::walker::{ResyncPart, Walker};
use crate::apply::{Applied, Beside, Then, Walk, WalkStep, Work};
use crate::error::{Code, Fault};
use crate::model::position::ClusterTime;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::spans::Span;
use crate::state::WalkRow;
use crate::status::ResyncReport;

/// The open resync of a stream, or its first snapshot.
pub struct OpenResync {
    context: Context,
    row: WalkRow,
    reason: Reason,
    /// When a resync has lasted longer than it may.
    deadline: Option<Instant>,
    reached: Reached,
    stage: Stage,
    /// Ends with the walk, or with this process's part of it.
    span: Span,
}

enum Stage {
    Walk(Box<Walker>),
    Sweep(Box<Sweeper>),
    Held,
}

/// What a writer must know of an open resync, in whatever state: the rows that the writer leaves as
/// they are count as seen. `None` for a first snapshot, which sweeps nothing.
pub fn beside(walk: &WalkRow) -> Option<Beside> {
    let beside = Beside { resync: walk.id, start: walk.start_time() };
    (!walk.is_snapshot()).then_some(beside)
}

/// What is shown of a walk.
pub fn report(row: &WalkRow) -> ResyncReport {
    let number = |n: i64| u64::try_from(n).unwrap_or_default();
    ResyncReport {
        id: row.id,
        reason: row.reason(),
        state: row.state(),
        documents_read: number(row.documents_read),
        rows_upserted: number(row.rows_inserted + row.rows_changed),
        rows_deleted: number(row.rows_deleted),
        queue_place: None,
        rows_to_delete: row.rows_to_delete.map(number),
        documents_estimated: row.documents_estimated.map(number),
        held_code: row.held_code.clone(),
        note: row.note.clone(),
        started_at: row.started_at,
        eta_at: None,
        deadline_at: row.deadline_at,
    }
}

/// What a committed part came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    More,
    Held,
    Completed,
}

impl OpenResync {
    /// Goes on where the row says the walk was, with care where processes have died.
    pub fn take_up(context: &Context, row: &WalkRow, reached: Reached, care: Option<Care>) -> Self {
        context.status.walking(Some(report(row)));
        let stage = match row.state() {
            ResyncState::Running => Stage::Walk(Box::new(Walker::new(context, row, care))),
            ResyncState::Sweeping => {
                Stage::Sweep(Box::new(Sweeper::new(context, row, reached.clone(), None)))
            }
            _ => Stage::Held,
        };
        let mut span = Span::begin("walk");
        span.text("tidemark.stream", &context.config.name);
        span.text("tidemark.reason", row.reason().name());
        span.count("tidemark.resync", u64::try_from(row.id).unwrap_or_default());
        let left = row.seconds_left.map(|left| Duration::from_secs_f64(left.max(0.0)));
        Self {
            context: context.clone(),
            reason: row.reason(),
            row: row.clone(),
            deadline: left.map(|left| Instant::now() + left),
            reached,
            stage,
            span,
        }
    }

    /// The next part to commit. Safe to cancel.
    pub async fn next(&mut self) -> Result<ResyncPart, Fault> {
        let deadline = self.deadline;
        let over_budget = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let id = self.row.id;
        match &mut self.stage {
            Stage::Held => std::future::pending().await,
            Stage::Walk(walker) => tokio::select! {
                biased;
                () = over_budget => Ok(self.hold_over_budget(id)),
                part = walker.next() => part,
            },
            Stage::Sweep(sweeper) => tokio::select! {
                biased;
                () = over_budget => Ok(self.hold_over_budget(id)),
                work = sweeper.next() => work.map(ResyncPart::without_documents),
            },
        }
    }

    /// A resync that lasts longer than it may stops where it is: the stream goes on, the table
    /// stays readable.
    fn hold_over_budget(&self, id: i64) -> ResyncPart {
        let note = format!(
            "not completed within resync.duration_max = {:?}",
            self.context.settings.resync.duration_max
        );
        let step = WalkStep::Held { code: Code::ResyncOverBudget, note, rows_to_delete: None };
        let work = Work { walk: Some(Walk { id, step }), ..Work::default() };
        ResyncPart::without_documents(work)
    }

    /// See [`beside`].
    pub fn beside(&self) -> Option<Beside> {
        beside(&self.row)
    }

    /// Whether it reads or sweeps: one that is held takes nobody's turn.
    pub const fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Held)
    }

    /// The live stream met these rows.
    pub fn touch(&mut self, work: &Work) {
        match &mut self.stage {
            Stage::Walk(walker) => walker.touch(work),
            Stage::Sweep(sweeper) => sweeper.touch(work),
            Stage::Held => {}
        }
    }

    /// The live stream has come to an event of this time.
    pub fn passed(&mut self, at: Option<ClusterTime>) {
        if let Stage::Walk(walker) = &mut self.stage {
            walker.passed(at);
        }
    }

    /// Chunks were bulk loaded, and more are to come: shows progress.
    pub fn bulk_loaded(&mut self, documents: u64, rows: u64) {
        if let Stage::Walk(walker) = &mut self.stage {
            walker.progressed(documents, rows);
        }
    }

    /// A part was committed: shows progress, and goes over to what comes next.
    pub async fn committed(
        &mut self,
        part: &ResyncPart,
        applied: &Applied,
        took: Duration,
    ) -> Done {
        let status = &self.context.status;
        let step = part.work.walk.as_ref().map(|walk| &walk.step);
        match step {
            Some(WalkStep::Chunk { then, documents_read, .. }) => {
                self.span.had_part("chunk", took);
                self.span.count("tidemark.documents", *documents_read);
                if let Stage::Walk(walker) = &mut self.stage {
                    walker.committed(part.documents, applied.rows_changed, took);
                }
                match then {
                    Then::MoreChunks => Done::More,
                    Then::Sweep => {
                        self.row.documents_read =
                            i64::try_from(*documents_read).unwrap_or(i64::MAX);
                        status.walk_state(ResyncState::Sweeping);
                        let connection = match std::mem::replace(&mut self.stage, Stage::Held) {
                            Stage::Walk(walker) => walker.into_connection(),
                            Stage::Sweep(_) | Stage::Held => None,
                        };
                        let reached = self.reached.clone();
                        let sweeper = Sweeper::new(&self.context, &self.row, reached, connection);
                        self.stage = Stage::Sweep(Box::new(sweeper));
                        Done::More
                    }
                    Then::Nothing => {
                        status.walk_ended(self.reason, ResyncState::Completed);
                        Done::Completed
                    }
                }
            }
            Some(WalkStep::Swept) | None => {
                self.span.had_part("sweep", took);
                status.swept(applied.rows_deleted);
                Done::More
            }
            Some(WalkStep::Held { code, note, rows_to_delete }) => {
                self.stage = Stage::Held;
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

    /// Logs what was missed, for a person who reads along: the table `gap_report` has it.
    async fn report_gap(&self) {
        match self.context.state.gap_report(self.row.id).await {
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
                tracing::warn!(stream = %self.context.config.name, "gap report not read: {fault}");
            }
        }
    }
}
