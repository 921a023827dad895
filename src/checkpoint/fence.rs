//! The fence: proof, inside a transaction, that this writer still holds the stream.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use super::{Checkpoints, Lease};
use crate::error::Fault;
use crate::model::position::Position;
use crate::postgres::{Target, within};

/// Exists only inside the transaction that locked the checkpoint row under the lease's epoch and nonce.
#[derive(Debug)]
pub struct Fence<'l> {
    lease: &'l Lease,
    schema: String,
    revision: i64,
}

impl<'l> Fence<'l> {
    /// Locks the stream's checkpoint row until the transaction ends. A grant waits for that lock, so nothing of an
    /// older epoch commits after a newer one was granted.
    ///
    /// # Errors
    /// Fenced if the row carries another epoch or nonce.
    pub async fn raise(
        transaction: &mut Transaction<'_, Postgres>,
        target: &Target,
        checkpoints: &Checkpoints,
        lease: &'l Lease,
    ) -> Result<Self, Fault> {
        let sql = format!(
            "select revision from {}.checkpoint where stream = $1 and epoch = $2 and nonce = $3 for update",
            checkpoints.schema()
        );
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql))
            .bind(lease.stream())
            .bind(lease.epoch())
            .bind(lease.nonce());
        let revision = within(target.deadline(), query.fetch_optional(&mut **transaction)).await?;
        let revision = revision.ok_or_else(|| Fault::fenced(lease.stream()))?;
        Ok(Self { lease, schema: checkpoints.schema().to_owned(), revision })
    }

    /// The number of advances before this transaction.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Moves the position, or leaves it and counts the advance alone.
    ///
    /// # Errors
    /// Fenced, or whatever Postgres answers.
    pub async fn advance(
        &self,
        connection: &mut PgConnection,
        target: &Target,
        position: Option<&Position>,
    ) -> Result<(), Fault> {
        let sql = format!(
            "update {}.checkpoint set resume_token = coalesce($4, resume_token), token = coalesce($5, token), \
             cluster_time = coalesce($6, cluster_time), revision = revision + 1, updated_at = now() \
             where stream = $1 and epoch = $2 and nonce = $3",
            self.schema
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(self.lease.stream())
            .bind(self.lease.epoch())
            .bind(self.lease.nonce())
            .bind(position.map(|p| p.token.bytes()))
            .bind(position.map(|p| p.token.text()))
            .bind(position.map(|p| p.cluster_time.to_sql()));
        let updated = within(target.deadline(), query.execute(connection)).await?.rows_affected();
        if updated == 1 { Ok(()) } else { Err(Fault::fenced(self.lease.stream())) }
    }
}
