//! The view `position`: what the tables show, as it is told to readers.

use sqlx::AssertSqlSafe;

use super::StateTables;
use crate::error::Fault;
use crate::postgres::with_deadline;

impl StateTables {
    /// The streams whose tables are exactly the source at the position.
    pub async fn exact_streams(&self) -> Result<Vec<String>, Fault> {
        let sql = AssertSqlSafe(format!("select stream from {}.position where exact", self.schema));
        with_deadline(self.deadline, sqlx::query_scalar(sql).fetch_all(&self.pool)).await
    }
}
