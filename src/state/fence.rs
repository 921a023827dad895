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
        let sql = checkpoint::advancing(&self.schema);
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql))
            .bind(self.lease.group())
            .bind(self.lease.epoch())
            .bind(self.lease.nonce())
            .bind(position.map(|p| p.token.bytes().to_vec()))
            .bind(position.map(|p| p.token.text()))
            .bind(position.map(|p| p.cluster_time.to_sql()));
        let moved = with_deadline(self.deadline, query.fetch_optional(connection)).await?;
        moved.map(drop).ok_or_else(|| Fault::fenced(self.lease.group()))
    }
}
