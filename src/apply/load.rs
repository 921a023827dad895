//! What one transaction of a writer is to hold, and how it begins.

use std::time::Duration;

use sqlx::{Postgres, Transaction};
use tokio::sync::mpsc;

use super::insert_path::InsertPath;
use super::rows::RowBuffers;
use super::walk::Walk;
use super::work::{Commit, Work};
use crate::error::Fault;
use crate::postgres::{Target, with_deadline};
use crate::spans::Span;

/// What one transaction is to hold.
pub(super) enum Load<'a> {
    Whole(&'a Commit, &'a [InsertPath]),
    Chunks(usize, mpsc::Receiver<Work>, &'a RowBuffers),
    Pieces(mpsc::Receiver<Commit>),
}

/// How long the pieces of one transaction of the source may take: the rows are locked so long.
pub(super) const PIECES_TIME_MAX: Duration = Duration::from_secs(600);

impl Load<'_> {
    /// A part of the batch it is of.
    pub fn part(&self, name: &'static str) -> Span {
        match self {
            Self::Whole(commit, _) => commit.span.part(name),
            Self::Chunks(..) | Self::Pieces(_) => Span::default(),
        }
    }

    /// One table that somebody locks does not keep the others waiting for long.
    pub fn begin(&self, tables: usize) -> &'static str {
        let may_be_lost = match self {
            Self::Whole(commit, _) => {
                let lost = |work: &Work| work.walk.as_ref().is_some_and(Walk::may_be_lost);
                commit.position.is_none()
                    && commit.parked.is_empty()
                    && commit.works.iter().all(lost)
            }
            Self::Chunks(..) => true,
            Self::Pieces(_) => false,
        };
        // Constraints are checked by each statement rather than by COMMIT: what is refused can be
        // found and set aside.
        match (may_be_lost, tables > 1) {
            (true, true) => {
                "begin; set constraints all immediate; set local lock_timeout = 2000; set local \
                 synchronous_commit = off"
            }
            (true, false) => {
                "begin; set constraints all immediate; set local synchronous_commit = off"
            }
            (false, true) => "begin; set constraints all immediate; set local lock_timeout = 2000",
            (false, false) => "begin; set constraints all immediate",
        }
    }
}

/// The next piece for a transaction that is open. While it is waited for the session says that it
/// is there: only what is silent for half a lease's length is ended by Postgres.
pub(super) async fn next_piece(
    target: &Target,
    transaction: &mut Transaction<'_, Postgres>,
    pieces: &mut mpsc::Receiver<Commit>,
) -> Result<Option<Commit>, Fault> {
    let patience = target.idle() / 3;
    loop {
        if let Ok(piece) = tokio::time::timeout(patience, pieces.recv()).await {
            return Ok(piece);
        }
        let still_here = sqlx::query("select 1").execute(&mut **transaction);
        with_deadline(target.deadline(), still_here).await?;
    }
}
