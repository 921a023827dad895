//! The fence: proof, inside a transaction, that this writer still holds the group. Its statements
//! are those of the table `checkpoint`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use super::{Lease, StateTables, checkpoint};
use crate::error::Fault;
use crate::model::position::Position;
use crate::postgres::with_deadline;

/// Exists only inside the transaction that locked the checkpoint row under the lease's epoch and
/// nonce.
#[derive(Debug)]
pub struct Fence<'l> {
    lease: &'l Lease,
    /// Quoted, for statements.
    schema: Arc<str>,
    deadline: Duration,
    revision: i64,
}

impl<'l> Fence<'l> {
    /// Locks the group's checkpoint row until the transaction ends. A grant waits for that lock, so
    /// nothing of an older epoch commits after a newer one was granted.
    ///
    /// # Errors
    /// Fenced if the row carries another epoch or nonce.
    pub async fn raise(
        transaction: &mut Transaction<'_, Postgres>,
        state: &StateTables,
        lease: &'l Lease,
    ) -> Result<Self, Fault> {
        let (schema, deadline) = (Arc::clone(&state.schema), state.deadline);
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(checkpoint::locking(&schema)))
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce());
        let revision = with_deadline(deadline, query.fetch_optional(&mut **transaction)).await?;
        let revision = revision.ok_or_else(|| Fault::fenced(lease.group()))?;
        Ok(Self { lease, schema, deadline, revision })
    }

    /// [`Fence::raise`] and [`Fence::advance`] in one statement, where the position after the
    /// transaction is known before its rows are written: one reply fewer is waited for.
    ///
    /// # Errors
    /// Fenced if the row carries another epoch or nonce.
    pub async fn raise_and_advance(
        transaction: &mut Transaction<'_, Postgres>,
        state: &StateTables,
        lease: &'l Lease,
        position: Option<&Position>,
    ) -> Result<Self, Fault> {
        let (schema, deadline) = (Arc::clone(&state.schema), state.deadline);
        let fence = Self { lease, schema, deadline, revision: 0 };
        let made = fence.move_to(transaction, position).await?;
        Ok(Self { revision: made - 1, ..fence })
    }

    /// The number of advances before this transaction.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Moves the position, or leaves it and counts the advance alone. The last statement of a
    /// transaction that writes rows.
    ///
    /// # Errors
    /// Fenced, where another holds the group.
    pub async fn advance(
        &self,
        connection: &mut PgConnection,
        position: Option<&Position>,
    ) -> Result<(), Fault> {
        self.move_to(connection, position).await.map(drop)
    }

    /// Answers the revision that this makes.
    async fn move_to(
        &self,
        connection: &mut PgConnection,
        position: Option<&Position>,
    ) -> Result<i64, Fault> {
        let sql = checkpoint::advancing(&self.schema);
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql))
            .bind(self.lease.group())
            .bind(self.lease.epoch())
            .bind(self.lease.nonce())
            .bind(position.map(|p| p.token.bytes().to_vec()))
            .bind(position.map(|p| p.token.text()))
            .bind(position.map(|p| p.cluster_time.to_sql()));
        let moved = with_deadline(self.deadline, query.fetch_optional(connection)).await?;
        moved.ok_or_else(|| Fault::fenced(self.lease.group()))
    }
}
