//! The table `process`: which processes run, and which have not said that they ended.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::StateTables;
use crate::error::Fault;
use crate::postgres::with_deadline;

/// A process that has not said that it ended.
#[derive(Debug, Clone, FromRow)]
pub struct ProcessRow {
    pub id: Uuid,
    /// Host and number, for people.
    pub holder: String,
    /// The host and process namespace in which its number can be looked up; `None` where it could
    /// not tell.
    pub place: Option<String>,
    /// Seconds since it last registered.
    pub silent: f64,
}

impl StateTables {
    /// The owner's other processes that were begun in the last ten minutes and have not said that
    /// they ended.
    pub async fn other_processes(&self, me: Uuid) -> Result<Vec<ProcessRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select id, holder, place, extract(epoch from clock_timestamp() - seen_at)::float8 as \
             silent from {}.process where service = $1 and environment = $3 and id <> $2 and \
             ended_at is null and started_at > now() - interval '10 minutes'",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(me).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// Who of the owner's processes runs: each has registered a moment ago.
    pub async fn living_processes(&self) -> Result<Vec<String>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select distinct holder from {}.process where service = $1 and environment = $2 and \
             ended_at is null and seen_at > now() - interval '15 seconds' order by holder",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_scalar(sql).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// Registers that this process runs, and forgets those begun more than a day ago.
    pub async fn register_process(
        &self,
        me: Uuid,
        holder: &str,
        place: Option<&str>,
        version: &str,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "with old as (delete from {0}.process where started_at < now() - interval '1 day' and \
             id <> $1) insert into {0}.process (id, service, environment, holder, version, place) \
             values ($1, $2, $6, $3, $4, $5) on conflict (id) do update set seen_at = now()",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql)
            .bind(me)
            .bind(&owner.service)
            .bind(holder)
            .bind(version)
            .bind(place)
            .bind(&owner.environment);
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// Notes that this process ends because it was told to, and so has not died.
    pub async fn end_process(&self, me: Uuid) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.process set ended_at = now() where id = $1",
            self.schema
        ));
        let query = sqlx::query(sql).bind(me);
        with_deadline(Duration::from_secs(1), query.execute(&self.pool)).await.map(drop)
    }
}
