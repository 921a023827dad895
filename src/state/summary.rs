//! The table `summary`: what the weekly summary is made of, and which channels have it.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};

use super::StateTables;
use crate::error::Fault;
use crate::postgres::with_deadline;

/// The row of a service and environment.
#[derive(Debug, Clone, FromRow)]
pub struct SummaryRow {
    /// When the last that was told, or given up, was due.
    pub due_at: DateTime<Utc>,
    /// What has been counted since.
    pub counted: Json<serde_json::Value>,
    /// Channels that have the one that is due now.
    pub told: Vec<String>,
}

impl StateTables {
    /// What is kept; `None` before the first look.
    pub async fn summary(&self) -> Result<Option<SummaryRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select due_at, counted, told from {}.summary where service = $1 and environment = $2",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_optional(&self.pool)).await
    }

    /// Counts on towards the summary after the one that was due then.
    pub async fn count_on(
        &self,
        due_at: DateTime<Utc>,
        counted: &serde_json::Value,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {}.summary as s (service, environment, due_at, counted) values ($1, $2, \
             $3, $4) on conflict (service, environment) do update set counted = excluded.counted \
             where s.due_at = excluded.due_at",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql).bind(&owner.service).bind(&owner.environment);
        let query = query.bind(due_at).bind(Json(counted));
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// Whether this process, and none beside or before it, tells a channel of the one after that
    /// which was due then.
    pub async fn claim_summary(&self, due_at: DateTime<Utc>, channel: &str) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.summary set told = array_append(told, $4) where service = $1 and \
             environment = $2 and due_at = $3 and $4 <> all(told)",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql).bind(&owner.service).bind(&owner.environment);
        let query = query.bind(due_at).bind(channel);
        let claimed = with_deadline(self.deadline, query.execute(&self.pool)).await?;
        Ok(claimed.rows_affected() == 1)
    }

    /// The channel did not take it: it is told later.
    pub async fn unclaim_summary(&self, channel: &str) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.summary set told = array_remove(told, $3) where service = $1 and \
             environment = $2",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql).bind(&owner.service).bind(&owner.environment).bind(channel);
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// The one that was due at `next` is told: counting begins anew.
    pub async fn end_summary(
        &self,
        due_at: DateTime<Utc>,
        next: DateTime<Utc>,
        counted: &serde_json::Value,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.summary set due_at = $4, counted = $5, told = '{{}}' where service = $1 and \
             environment = $2 and due_at = $3",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql).bind(&owner.service).bind(&owner.environment);
        let query = query.bind(due_at).bind(next).bind(Json(counted));
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }
}
