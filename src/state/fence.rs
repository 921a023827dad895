//! The fence: proof, inside a transaction, that this writer still holds the stream. Its statements
//! are those of the tables `checkpoint` and `stream`.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use super::{Lease, StateTables, Touched, checkpoint, stream};
use crate::error::{Class, Code, Fault};
use crate::model::position::Position;
use crate::postgres::with_deadline;

/// An advance with its parameters, and those that follow.
type Query<'q, T> = QueryAs<'q, Postgres, T, PgArguments>;

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
    /// Locks the stream's checkpoint row until the transaction ends. A grant waits for that lock,
    /// so nothing of an older epoch commits after a newer one was granted.
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
            .bind(lease.stream())
            .bind(lease.epoch())
            .bind(lease.nonce());
        let revision = with_deadline(deadline, query.fetch_optional(&mut **transaction)).await?;
        let revision = revision.ok_or_else(|| Fault::fenced(lease.stream()))?;
        Ok(Self { lease, schema, deadline, revision })
    }

    /// The number of advances before this transaction.
    pub const fn revision(&self) -> i64 {
        self.revision
    }

    /// Moves the position, or leaves it and counts the advance alone.
    ///
    /// # Errors
    /// Fenced, where another holds the stream.
    pub async fn advance(
        &self,
        connection: &mut PgConnection,
        position: Option<&Position>,
    ) -> Result<(), Fault> {
        let sql = format!("{} returning revision", checkpoint::advancing(&self.schema));
        let query = self.bind(sqlx::query_as::<_, (i64,)>(AssertSqlSafe(sql)), position);
        let moved = with_deadline(self.deadline, query.fetch_optional(connection)).await?;
        moved.map(drop).ok_or_else(|| Fault::fenced(self.lease.stream()))
    }

    /// Moves the position, or leaves it and counts the advance alone; and looks, in the same
    /// statement, whether the table still has its witness, which becomes the newest of the rows
    /// written.
    ///
    /// # Errors
    /// Fenced; history lost where the table is not what it was.
    pub async fn advance_over(
        &self,
        connection: &mut PgConnection,
        position: Option<&Position>,
        touched: &Touched<'_>,
    ) -> Result<(), Fault> {
        let (schema, table) = (&self.schema, touched.table);
        let advancing = checkpoint::advancing(schema);
        let moves = !touched.written.is_empty() || !touched.deleted.is_empty();
        let sql = if moves {
            stream::advancing_and_moving(schema, table, &advancing)
        } else {
            stream::advancing_and_looking(schema, table, &advancing)
        };
        let query = sqlx::query_as::<_, (bool, bool)>(AssertSqlSafe(sql));
        let mut query = self.bind(query, position);
        if moves {
            query = query.bind(&touched.written).bind(touched.deleted);
        }
        let advanced = with_deadline(self.deadline, query.fetch_optional(&mut *connection)).await?;
        let (stands, witnessed) = advanced.ok_or_else(|| Fault::fenced(self.lease.stream()))?;
        if !stands {
            let message =
                "rows that tidemark wrote are gone from the table, or older than they were";
            let hint = "find out who empties or restores the table";
            return Err(Fault::new(Class::HistoryLost, Code::HistoryLost, message, hint));
        }
        if !witnessed {
            let sql = AssertSqlSafe(stream::finding_witness(schema, table));
            let query = sqlx::query(sql).bind(self.lease.stream());
            with_deadline(self.deadline, query.execute(connection)).await?;
        }
        Ok(())
    }

    fn bind<'q, T>(&self, query: Query<'q, T>, position: Option<&Position>) -> Query<'q, T> {
        query
            .bind(self.lease.stream().to_owned())
            .bind(self.lease.epoch())
            .bind(self.lease.nonce())
            .bind(position.map(|p| p.token.bytes().to_vec()))
            .bind(position.map(|p| p.token.text()))
            .bind(position.map(|p| p.cluster_time.to_sql()))
    }
}
