//! The sweep after a walk: finds the rows the walk did not see, asks the source for them once more,
//! and hands on what it does not have to be deleted, part by part.

use std::collections::HashSet;

use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::context::Context;
use super::search::{FoundPart, Reached, Search};
use super::walker::TOUCHED_MAX;
use crate::apply::{Deletes, Walk, WalkStep, Work};
use crate::error::{Code, Fault};
use crate::state::WalkRow;

/// A sweep under way. The rows are looked for on a connection of its own, while the live stream
/// goes on.
pub struct Sweeper {
    context: Context,
    walk: WalkRow,
    reached: Reached,
    found: mpsc::Receiver<Result<FoundPart, Fault>>,
    task: JoinSet<()>,
    /// Keys the live stream met since the search began: what the search found of them may not be so
    /// any more, so they are left.
    touched: HashSet<String>,
}

impl Sweeper {
    /// Begins the search, over the walk's connection if it left one.
    pub fn new(
        context: &Context,
        walk: &WalkRow,
        reached: Reached,
        connection: Option<PgConnection>,
    ) -> Self {
        tracing::info!(stream = %context.config.name, resync = walk.id, "sweep under way");
        let (mut task, touched) = (JoinSet::new(), HashSet::new());
        let found = search(context, walk, &reached, connection, &mut task);
        Self { context: context.clone(), walk: walk.clone(), reached, found, task, touched }
    }

    /// The live stream met these rows.
    pub fn touch(&mut self, work: &Work) {
        self.touched.extend(work.keys().map(str::to_owned));
        if self.touched.len() > TOUCHED_MAX {
            // What it found of them is known to the database, which a new search asks.
            self.task.abort_all();
            self.found = search(&self.context, &self.walk, &self.reached, None, &mut self.task);
            self.touched.clear();
        }
    }

    /// The next part to be written; the last ends the resync. Safe to cancel.
    pub async fn next(&mut self) -> Result<Work, Fault> {
        let found = self.found.recv().await;
        let found = found.unwrap_or_else(|| {
            Err(Fault::bug("the search for rows to sweep ended without a word"))
        })?;
        let (mut deletes, mut ahead) = (Deletes::default(), None);
        let step = match found {
            FoundPart::Gone(rows, asked) => {
                ahead = Some(asked.until);
                for row in rows.into_iter().filter(|row| !self.touched.contains(&row.id)) {
                    // Deleted only if it is no newer than it was found.
                    deletes.push_found(row.id, row.cluster_time, asked.after);
                }
                WalkStep::Swept
            }
            FoundPart::TooMany { note, rows } => {
                WalkStep::Held { code: Code::ResyncHeld, note, rows_to_delete: Some(rows) }
            }
            FoundPart::All => WalkStep::Completed,
        };
        let walk = Some(Walk { id: self.walk.id, step });
        Ok(Work { deletes, walk, ahead, ..Work::default() })
    }
}

fn search(
    context: &Context,
    walk: &WalkRow,
    reached: &Reached,
    connection: Option<PgConnection>,
    task: &mut JoinSet<()>,
) -> mpsc::Receiver<Result<FoundPart, Fault>> {
    let (sender, found) = mpsc::channel(1);
    task.spawn(Search::new(context, walk, reached.clone(), sender).run(connection));
    found
}
