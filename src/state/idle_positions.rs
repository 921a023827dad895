//! Positions of groups that are silent, of one process: one transaction for all of them. A group
//! whose part of it fails is left out, and commits its own by itself.

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction};

use super::{Fence, Lease, StateTables, Touched};
use crate::error::Fault;
use crate::model::position::Position;
use crate::postgres::{Ending, commit, with_deadline};

/// What is in one group's way, a table that somebody locks, keeps the others waiting for no longer.
const BEGIN: &str = "begin; set local lock_timeout = 100; set local statement_timeout = 1000";

/// The position of a group that is silent.
#[derive(Debug, Clone)]
pub struct IdlePosition {
    pub lease: Lease,
    /// The revision it is committed on.
    pub revision: i64,
    pub position: Position,
    /// Streams whose tables are looked at, each with its table's name for SQL.
    pub looks: Vec<(String, String)>,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleEnd {
    Landed,
    /// Not committed: the group does it by itself, and meets what is in its way.
    LeftOut,
    /// The answer was lost.
    InDoubt,
}

impl StateTables {
    /// Commits them, and says what became of each.
    pub async fn commit_idle(&self, positions: &[IdlePosition]) -> Vec<IdleEnd> {
        let left_out = || vec![IdleEnd::LeftOut; positions.len()];
        let Ok(mut connection) = with_deadline(self.deadline, self.pool.acquire()).await else {
            return left_out();
        };
        let ends = self.commit_all_idle(&mut connection, positions).await;
        if ends.contains(&IdleEnd::Landed) {
            connection.give_back();
        }
        ends
    }

    async fn commit_all_idle(
        &self,
        connection: &mut PgConnection,
        positions: &[IdlePosition],
    ) -> Vec<IdleEnd> {
        let begun = connection.begin_with(BEGIN);
        let Ok(mut transaction) = with_deadline(self.deadline, begun).await else {
            return vec![IdleEnd::LeftOut; positions.len()];
        };
        let mut taken = Vec::with_capacity(positions.len());
        for idle in positions {
            let written = self.take_idle(&mut transaction, idle).await;
            if let Err(fault) = &written {
                let group = idle.lease.group();
                tracing::debug!(group, "idle position left out: {fault}");
            }
            taken.push(written.is_ok());
        }
        let end = match commit(self.deadline, transaction).await {
            Ending::Landed => IdleEnd::Landed,
            Ending::Refused(_) => IdleEnd::LeftOut,
            Ending::Unknown(_) => IdleEnd::InDoubt,
        };
        taken.into_iter().map(|taken| if taken { end } else { IdleEnd::LeftOut }).collect()
    }

    /// One group's part, under a savepoint of its own.
    async fn take_idle(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        idle: &IdlePosition,
    ) -> Result<(), Fault> {
        let mut part = with_deadline(self.deadline, transaction.begin()).await?;
        match self.write_idle(&mut part, idle).await {
            Ok(()) => with_deadline(self.deadline, part.commit()).await,
            Err(fault) => {
                with_deadline(self.deadline, part.rollback()).await?;
                Err(fault)
            }
        }
    }

    async fn write_idle(
        &self,
        part: &mut Transaction<'_, Postgres>,
        idle: &IdlePosition,
    ) -> Result<(), Fault> {
        let fence = Fence::raise(part, self, &idle.lease).await?;
        if fence.revision() != idle.revision {
            return Err(Fault::rewound(fence.revision(), idle.revision));
        }
        for (stream, living) in &idle.looks {
            let touched = Touched { living, ..Touched::default() };
            self.look_at(part, stream, &touched).await?;
        }
        fence.advance(part, Some(&idle.position)).await
    }
}
