//! The sweep after a walk: finds the rows the walk did not see, and hands them on to be deleted, part by part.

use futures_util::TryStreamExt;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Context, wait_or_give_up};
use crate::apply::{Deletes, Step, Walk, Work};
use crate::checkpoint::WalkRow;
use crate::error::{Code, Fault};
use crate::model::position::ClusterTime;
use crate::postgres::within;
use crate::resync::{Found, Limits, Verdict, judge};
use crate::retry::Backoff;

/// Rows deleted in one transaction.
const PART: usize = 1_000;

/// A sweep under way. The rows are looked for on a connection of its own, while the live stream goes on.
pub struct Sweeper {
    id: i64,
    start: ClusterTime,
    found: mpsc::Receiver<Result<Piece, Fault>>,
    _task: JoinSet<()>,
}

/// What the search comes to, piece by piece.
enum Piece {
    Delete(Vec<String>),
    Hold(String, u64),
    Done,
}

impl Sweeper {
    /// Looks over this connection first, if there is one.
    pub fn new(context: &Context, walk: &WalkRow, connection: Option<PgConnection>) -> Self {
        let (sender, found) = mpsc::channel(1);
        let mut task = JoinSet::new();
        let search = Search {
            context: context.clone(),
            id: walk.id,
            start: walk.start_time(),
            documents: u64::try_from(walk.documents_read).unwrap_or_default(),
            approved: walk.approved_at.is_some(),
            found: sender,
        };
        tracing::info!(stream = %context.config.name, resync = walk.id, "sweep under way");
        task.spawn(search.run(connection));
        Self { id: walk.id, start: walk.start_time(), found, _task: task }
    }

    /// The next piece of work, and the walk's end with the last. Safe to cancel.
    pub async fn next(&mut self) -> Result<Work, Fault> {
        let piece = self.found.recv().await;
        let piece = piece.unwrap_or_else(|| Err(Fault::bug("the search for rows to sweep ended without a word")))?;
        let step = match &piece {
            Piece::Delete(_) => Step::Swept,
            Piece::Hold(note, rows) => {
                Step::Held { code: Code::ResyncHeld, note: note.clone(), rows_to_delete: Some(*rows) }
            }
            Piece::Done => Step::Completed,
        };
        let mut deletes = Deletes::default();
        if let Piece::Delete(ids) = piece {
            // Deleted only if still older than the walk's start: what the live stream wrote since stays.
            let before = ClusterTime::new(self.start.packed().saturating_sub(1));
            for id in ids {
                deletes.push(id, before);
            }
        }
        Ok(Work { deletes, walk: Some(Walk { id: self.id, step }), ..Work::default() })
    }
}

struct Search {
    context: Context,
    id: i64,
    start: ClusterTime,
    documents: u64,
    approved: bool,
    found: mpsc::Sender<Result<Piece, Fault>>,
}

impl Search {
    async fn run(self, mut connection: Option<PgConnection>) {
        let mut backoff = Backoff::new(self.context.settings.retry);
        loop {
            let Err(fault) = self.attempt(connection.take()).await else { return };
            if let Err(fault) = wait_or_give_up(&self.context, "sweep", &mut backoff, fault).await {
                let _ = self.found.send(Err(fault)).await;
                return;
            }
        }
    }

    /// Counts, asks the caps, then sends the ids. Begun again after an error: what is deleted by then is not found again.
    async fn attempt(&self, connection: Option<PgConnection>) -> Result<(), Fault> {
        let context = &self.context;
        let mut connection = match connection {
            Some(connection) => connection,
            None => context.target.connect().await?,
        };
        let patience = context.settings.resync.duration_max;
        let set =
            format!("set statement_timeout = {}; set idle_in_transaction_session_timeout = 0", patience.as_millis());
        within(context.target.deadline(), sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut connection)).await?;
        let unseen = context.checkpoints.unseen(&mut connection, &context.table, self.id, self.start).await?;
        within(context.target.deadline(), sqlx::raw_sql(unseen.planning()).execute(&mut connection)).await?;
        let unseen_rows = within(patience, unseen.count().fetch_one(&mut connection)).await?;
        let rows = if unseen_rows > 0 {
            let count = AssertSqlSafe(format!("select count(*) from {}", context.table.sql()));
            within(patience, sqlx::query_scalar::<_, i64>(count).fetch_one(&mut connection)).await?
        } else {
            0
        };
        let number = |n: i64| u64::try_from(n).unwrap_or_default();
        let found = Found { documents: self.documents, rows: number(rows), unseen: number(unseen_rows) };
        let resync = &context.settings.resync;
        let limits =
            Limits { delete_fraction_max: resync.delete_fraction_max, delete_count_min: resync.delete_count_min };
        if let Verdict::Hold(why) = judge(found, limits, self.approved) {
            let _ = self.found.send(Ok(Piece::Hold(why, found.unseen))).await;
            return Ok(());
        }
        if found.unseen > 0 {
            let mut ids = unseen.ids().fetch(&mut connection);
            let mut part = Vec::with_capacity(PART);
            while let Some(id) = within(patience, ids.try_next()).await? {
                part.push(id);
                if part.len() == PART && !self.send(std::mem::take(&mut part)).await {
                    return Ok(());
                }
            }
            if !part.is_empty() && !self.send(part).await {
                return Ok(());
            }
        }
        let _ = self.found.send(Ok(Piece::Done)).await;
        let _ = within(context.target.deadline(), connection.close()).await;
        Ok(())
    }

    /// False if nobody wants to know any more.
    async fn send(&self, ids: Vec<String>) -> bool {
        self.found.send(Ok(Piece::Delete(ids))).await.is_ok()
    }
}
