//! Retention: rows that are over are forgotten, a few in a statement, of this service and
//! environment alone. What is not over (a dead letter not resolved, an open incident, a request
//! that waits, a position in use) is no part of any statement here; each table's file says what is
//! over.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::{StateTables, checkpoint_history, command, dead_letter, gap_report, resync};
use crate::error::Fault;
use crate::postgres::with_deadline;

/// Rows that one statement forgets.
pub const STEP_ROWS: u64 = 1_000;

/// A table of which rows are forgotten once they are over for long enough.
#[derive(Debug, Clone, Copy)]
pub struct Over {
    table: &'static str,
    key: &'static str,
    /// Made of the schema's name: which of the rows `t` are over since before `$1`; `$2` and `$3`
    /// are whose.
    condition: fn(&str) -> String,
}

impl Over {
    pub const DEAD_LETTER: Self = Self::new("dead_letter", "id", dead_letter::over);
    pub const GAP_REPORT: Self = Self::new("gap_report", "resync_id", gap_report::over);
    pub const RESYNC: Self = Self::new("resync", "id", resync::over);
    pub const CHECKPOINT_HISTORY: Self =
        Self::new("checkpoint_history", "id", checkpoint_history::over);
    pub const COMMAND: Self = Self::new("command", "id", command::over);

    /// A table, the key of its rows, and the condition under which they are over.
    pub const fn new(
        table: &'static str,
        key: &'static str,
        condition: fn(&str) -> String,
    ) -> Self {
        Self { table, key, condition }
    }

    pub const fn table(self) -> &'static str {
        self.table
    }
}

impl StateTables {
    /// How many rows are over since before a time.
    pub async fn count_over(&self, over: Over, before: DateTime<Utc>) -> Result<u64, Fault> {
        let (schema, table) = (&self.schema, over.table());
        let sql = format!(
            "select count(*) from {schema}.{table} as t where {}",
            (over.condition)(schema)
        );
        self.number(sql, before).await
    }

    /// Forgets some of them, [`STEP_ROWS`] at most: how many.
    pub async fn forget(&self, over: Over, before: DateTime<Utc>) -> Result<u64, Fault> {
        let (schema, table, key) = (&self.schema, over.table(), over.key);
        let sql = format!(
            "with over as (select t.{key} as key from {schema}.{table} as t where {} order by \
             t.{key} limit {STEP_ROWS}), gone as (delete from {schema}.{table} as t using over \
             where t.{key} = over.key returning 1) select count(*) from gone",
            (over.condition)(schema)
        );
        self.number(sql, before).await
    }

    /// Forgets the ids that the walks which are kept have sampled.
    pub async fn forget_samples(&self, before: DateTime<Utc>) -> Result<(), Fault> {
        let sql = resync::forgetting_samples(&self.schema);
        self.number(sql, before).await.map(drop)
    }

    async fn number(&self, sql: String, before: DateTime<Utc>) -> Result<u64, Fault> {
        let owner = self.target.owner();
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
        let query = query.bind(before).bind(&owner.service).bind(&owner.environment);
        Ok(u64::try_from(with_deadline(self.deadline, query.fetch_one(&self.pool)).await?)
            .unwrap_or_default())
    }
}
