//! The row of a walk in progress: what `resync` continues after a kill.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, FromRow};

use super::{Checkpoints, Fence, Lease};
use crate::error::Fault;
use crate::model::position::Position;
use crate::postgres::within;

/// A walk that has begun and not ended.
#[derive(Debug, Clone, FromRow, PartialEq, Eq)]
pub struct RunningWalk {
    pub id: i64,
    pub reason: String,
    pub walk_class: i32,
    pub walk_after: Option<Vec<u8>>,
    pub documents_read: i64,
    pub rows_upserted: i64,
    pub documents_estimated: Option<i64>,
    pub started_at: DateTime<Utc>,
}

impl Checkpoints {
    /// The stream's walk in progress, if there is one.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn running_walk(&self, stream: &str) -> Result<Option<RunningWalk>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select id, reason, walk_class, walk_after, documents_read, rows_upserted, documents_estimated, started_at \
             from {}.resync where stream = $1 and state = 'running'",
            self.schema()
        ));
        within(self.target.deadline(), sqlx::query_as(sql).bind(stream).fetch_optional(&self.pool)).await
    }

    /// Begins a walk: its row and the position it starts from are one transaction.
    ///
    /// # Errors
    /// Fenced, or whatever Postgres answers.
    pub async fn begin_walk(
        &self,
        lease: &Lease,
        position: &Position,
        reason: &str,
        estimate: Option<u64>,
    ) -> Result<(), Fault> {
        let deadline = self.target.deadline();
        let mut connection = self.target.connect().await?;
        let mut transaction = within(deadline, connection.begin()).await?;
        let fence = Fence::raise(&mut transaction, &self.target, self, lease).await?;
        let sql = AssertSqlSafe(format!(
            "insert into {}.resync (stream, reason, state, documents_estimated) values ($1, $2, 'running', $3)",
            self.schema()
        ));
        let estimate = estimate.and_then(|n| i64::try_from(n).ok());
        let query = sqlx::query(sql).bind(lease.stream()).bind(reason).bind(estimate);
        within(deadline, query.execute(&mut *transaction)).await?;
        fence.advance(&mut transaction, &self.target, Some(position)).await?;
        within(deadline, transaction.commit()).await
    }
}
