//! Retention: rows that are over are forgotten, a few in a statement, of this service and
//! environment alone. What is not over (a letter not resolved, an open incident, a request that
//! waits, a position in use) is no part of any statement here; each table's file says what is over.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::{Checkpoints, checkpoint_history, command, dead_letter, gap_report, resync};
use crate::error::Fault;
use crate::postgres::with_deadline;

/// Rows that one statement forgets.
pub const STEP_ROWS: u64 = 1_000;

/// A table of which rows are forgotten once they are over for long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    DeadLetter,
    Incident,
    GapReport,
    Resync,
    CheckpointHistory,
    Command,
}

impl Over {
    /// In an order in which none is held by another.
    pub const ALL: [Self; 6] = [
        Self::DeadLetter,
        Self::Incident,
        Self::GapReport,
        Self::Resync,
        Self::CheckpointHistory,
        Self::Command,
    ];

    pub const fn table(self) -> &'static str {
        match self {
            Self::DeadLetter => "dead_letter",
            Self::Incident => "incident",
            Self::GapReport => "gap_report",
            Self::Resync => "resync",
            Self::CheckpointHistory => "checkpoint_history",
            Self::Command => "command",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::GapReport => "resync_id",
            _ => "id",
        }
    }

    /// Which of its rows `t` are over since before `$1`; `$2` and `$3` are whose.
    fn condition(self, schema: &str) -> String {
        match self {
            Self::DeadLetter => dead_letter::over(schema),
            // Its end is told for a week to a channel that was away: see `alert::Store::load`.
            Self::Incident => format!(
                "t.resolved_at < $1 and t.service = $2 and t.environment = $3 \
                 and (t.resolved_at < now() - interval '7 days' or not exists \
                 (select from {schema}.outbox as o where o.incident_id = t.id and o.pending))"
            ),
            Self::GapReport => gap_report::over(schema),
            Self::Resync => resync::over(schema),
            Self::CheckpointHistory => checkpoint_history::over(schema),
            Self::Command => command::over(schema),
        }
    }
}

impl Checkpoints {
    /// How many rows are over since before a time.
    pub async fn count_over(&self, over: Over, before: DateTime<Utc>) -> Result<u64, Fault> {
        let (schema, table) = (&self.schema, over.table());
        let sql =
            format!("select count(*) from {schema}.{table} as t where {}", over.condition(schema));
        self.number(sql, before).await
    }

    /// Forgets some of them, [`STEP_ROWS`] at most: how many.
    pub async fn forget(&self, over: Over, before: DateTime<Utc>) -> Result<u64, Fault> {
        let (schema, table, key) = (&self.schema, over.table(), over.key());
        let sql = format!(
            "with over as (select t.{key} as key from {schema}.{table} as t where {} order by \
             t.{key} limit {STEP_ROWS}), gone as (delete from {schema}.{table} as t using over \
             where t.{key} = over.key returning 1) select count(*) from gone",
            over.condition(schema)
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
