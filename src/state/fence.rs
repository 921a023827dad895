//! The fence: proof, inside a transaction, that this writer still holds the stream.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use super::{Checkpoints, Lease};
use crate::error::Fault;
use crate::model::position::Position;
use crate::postgres::{Target, with_deadline};

/// An advance with its parameters, and those that follow.
pub(super) type Query<'q, T> = QueryAs<'q, Postgres, T, PgArguments>;

/// Exists only inside the transaction that locked the checkpoint row under the lease's epoch and
/// nonce.
#[derive(Debug)]
pub struct Fence<'l> {
    pub(super) lease: &'l Lease,
    pub(super) schema: String,
    revision: i64,
}

impl<'l> Fence<'l> {
    /// Locks the stream's checkpoint row until the transaction ends. A grant waits for that lock,
    /// so nothing of an older epoch commits after a newer one was granted.
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
            "select revision from {}.checkpoint where stream = $1 and epoch = $2 and nonce = $3 \
             for update",
            checkpoints.schema()
        );
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql))
            .bind(lease.stream())
            .bind(lease.epoch())
            .bind(lease.nonce());
        let revision =
            with_deadline(target.deadline(), query.fetch_optional(&mut **transaction)).await?;
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
        let sql = AssertSqlSafe(format!("{} returning revision", self.advancing()));
        let query = self.bind(sqlx::query_as::<_, (i64,)>(sql), position);
        let moved = with_deadline(target.deadline(), query.fetch_optional(connection)).await?;
        moved.map(drop).ok_or_else(|| Fault::fenced(self.lease.stream()))
    }

    /// The statement that advances, with six parameters.
    pub(super) fn advancing(&self) -> String {
        format!(
            "update {}.checkpoint set resume_token = coalesce($4, resume_token), token = \
             coalesce($5, token), cluster_time = coalesce($6, cluster_time), revision = revision + \
             1, updated_at = now() where stream = $1 and epoch = $2 and nonce = $3",
            self.schema
        )
    }

    pub(super) fn bind<'q, T>(
        &self,
        query: Query<'q, T>,
        position: Option<&Position>,
    ) -> Query<'q, T> {
        query
            .bind(self.lease.stream().to_owned())
            .bind(self.lease.epoch())
            .bind(self.lease.nonce())
            .bind(position.map(|p| p.token.bytes().to_vec()))
            .bind(position.map(|p| p.token.text()))
            .bind(position.map(|p| p.cluster_time.to_sql()))
    }
}
