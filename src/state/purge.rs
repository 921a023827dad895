//! What is over, forgotten: a few rows in a statement, of this service and environment alone. What
//! is not over (a letter not resolved, an open incident, a request that waits, a position in use)
//! is no part of any statement here.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::command::{COLUMNS, DUE};
use super::{Checkpoints, Command, Outcome, Verb};
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

    /// Which of its rows are over since before `$1`; `$2` and `$3` are whose.
    fn condition(self, schema: &str) -> String {
        let ours = format!(
            "exists (select from {schema}.stream as s \
             where s.stream = t.stream and s.service = $2 and s.environment = $3)"
        );
        match self {
            Self::DeadLetter => format!("t.resolved_at < $1 and {ours}"),
            // Its end is told for a week to a channel that was away: see `alert::Store::load`.
            Self::Incident => format!(
                "t.resolved_at < $1 and t.service = $2 and t.environment = $3 \
                 and (t.resolved_at < now() - interval '7 days' or not exists \
                 (select from {schema}.outbox as o where o.incident_id = t.id and o.pending))"
            ),
            Self::GapReport => format!("t.at < $1 and {ours}"),
            // The last one tells how the table came to be as it is, and one that nothing has
            // repaired since is told of still. Those of a day count towards
            // `resync.automatic_per_day_max`.
            Self::Resync => format!(
                "t.ended_at < $1 and t.ended_at < now() - interval '1 day' and {ours} and exists \
                 (select from {schema}.resync as later where later.stream = t.stream and later.id \
                 > t.id and later.state = 'completed') and not exists (select from \
                 {schema}.gap_report as g where g.resync_id = t.id)"
            ),
            Self::CheckpointHistory => format!(
                "t.retired_at < $1 and {ours} and exists (select from {schema}.checkpoint_history \
                 as later where later.stream = t.stream and later.id > t.id)"
            ),
            Self::Command => {
                format!(
                    "t.done_at < $1 and (t.service = $2 and t.environment = $3 or t.service is \
                     null and {ours})"
                )
            }
        }
    }
}

impl Checkpoints {
    /// How many rows are over since before a time.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn count_over(&self, over: Over, before: DateTime<Utc>) -> Result<u64, Fault> {
        let (schema, table) = (self.schema(), over.table());
        let sql =
            format!("select count(*) from {schema}.{table} as t where {}", over.condition(schema));
        self.number(sql, before).await
    }

    /// Forgets some of them, [`STEP_ROWS`] at most: how many.
    ///
    /// # Errors
    /// Whatever Postgres answers; then none was.
    pub async fn forget(&self, over: Over, before: DateTime<Utc>) -> Result<u64, Fault> {
        let (schema, table, key) = (self.schema(), over.table(), over.key());
        let sql = format!(
            "with over as (select t.{key} as key from {schema}.{table} as t where {} order by \
             t.{key} limit {STEP_ROWS}), gone as (delete from {schema}.{table} as t using over \
             where t.{key} = over.key returning 1) select count(*) from gone",
            over.condition(schema)
        );
        self.number(sql, before).await
    }

    /// Forgets the ids that the walks which are kept have sampled.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn forget_samples(&self, before: DateTime<Utc>) -> Result<(), Fault> {
        let schema = self.schema();
        let sql = format!(
            "with gone as (update {schema}.resync as t set sample_ids = '{{}}' where t.ended_at < \
             $1 and t.sample_ids <> '{{}}' and exists (select from {schema}.stream as s where \
             s.stream = t.stream and s.service = $2 and s.environment = $3) returning 1) select \
             count(*) from gone"
        );
        self.number(sql, before).await.map(drop)
    }

    async fn number(&self, sql: String, before: DateTime<Utc>) -> Result<u64, Fault> {
        let owner = self.target.owner();
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
        let query = query.bind(before).bind(&owner.service).bind(&owner.environment);
        Ok(u64::try_from(with_deadline(self.target.deadline(), query.fetch_one(&self.pool)).await?)
            .unwrap_or_default())
    }

    /// The oldest request to forget whose turn it is; its try is counted. Should the process end by
    /// it, it is next tried after `pause`.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn take_purge(&self, pause: Duration) -> Result<Option<Command>, Fault> {
        let sql = AssertSqlSafe(format!(
            "update {0}.command set attempts = attempts + 1, next_try_at = clock_timestamp() + \
             make_interval(secs => $4) where id = (select id from {0}.command where stream = '' \
             and verb = $1 and service = $2 and environment = $3 and {DUE} order by id limit 1) \
             returning {COLUMNS}",
            self.schema()
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql)
            .bind(Verb::Purge.name())
            .bind(&owner.service)
            .bind(&owner.environment);
        let query = query.bind(pause.as_secs_f64());
        with_deadline(self.target.deadline(), query.fetch_optional(&self.pool)).await
    }

    /// It has ended so.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn end_purge(&self, id: i64, outcome: Outcome, result: &str) -> Result<(), Fault> {
        let mut connection = with_deadline(self.target.deadline(), self.pool.acquire()).await?;
        self.finish_command(&mut connection, id, outcome, result).await
    }
}
