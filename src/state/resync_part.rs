//! The table `resync_part`: the documents that a request to resync a part of a stream names, and
//! how far it has come. A row a request.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use super::{StateTables, command};
use crate::error::Fault;
use crate::model::format::{many, thousands};
use crate::postgres::with_deadline;

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct PartRow {
    /// How many documents were named.
    pub documents: i32,
    /// So many of them are done, in the order in which they were named.
    pub done: i32,
    pub rows_written: i64,
    pub rows_deleted: i64,
    pub set_aside: i64,
}

/// What one transaction did of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartStep {
    pub command: i64,
    /// So many of the documents named are done with it; `None` if it ends amid a step.
    pub done: Option<i32>,
}

/// A request to resync a part, for people.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct PartListed {
    pub command: i64,
    pub stream: String,
    pub actor: String,
    pub db_user: Option<String>,
    pub db_address: Option<String>,
    pub reason: String,
    pub at: DateTime<Utc>,
    /// `None` until it has ended.
    pub outcome: Option<String>,
    pub result: Option<String>,
    pub documents: i32,
    pub done: i32,
    pub rows_written: i64,
    pub rows_deleted: i64,
    pub set_aside: i64,
}

impl PartRow {
    /// `200 of 1,000 documents read, 7 rows written, 1 deleted`.
    pub fn told(&self) -> String {
        let whole = |n: i64| u64::try_from(n).unwrap_or_default();
        let number = |n: i64| thousands(whole(n));
        let set_aside = match self.set_aside {
            0 => String::new(),
            more => format!(", {} set aside", number(more)),
        };
        format!(
            "{} of {} documents read, {} written, {} deleted{set_aside}",
            number(self.done.into()),
            number(self.documents.into()),
            many(whole(self.rows_written), "row"),
            number(self.rows_deleted),
        )
    }

    pub const fn is_done(&self) -> bool {
        self.done >= self.documents
    }
}

impl StateTables {
    /// How far a request has come; at its first turn, the documents it names are taken out of it.
    /// `None` if it names none.
    pub async fn part(&self, command: i64) -> Result<Option<PartRow>, Fault> {
        let (schema, named) = (&self.schema, command::handing_over_ids(&self.schema));
        let take = AssertSqlSafe(format!(
            "{named} insert into {schema}.resync_part (command_id, ids, documents) select id, ids, \
             cardinality(ids) from named on conflict do nothing"
        ));
        let take = sqlx::query(take).bind(command).execute(&self.pool);
        with_deadline(self.deadline, take).await?;
        let sql = AssertSqlSafe(format!(
            "select documents, done, rows_written, rows_deleted, set_aside from \
             {schema}.resync_part where command_id = $1"
        ));
        let query = sqlx::query_as(sql).bind(command).fetch_optional(&self.pool);
        with_deadline(self.deadline, query).await
    }

    /// The next documents of a request that are not done, at most so many.
    pub async fn part_ids(&self, command: i64, limit: i32) -> Result<Vec<String>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select ids[done + 1 : done + $2] from {}.resync_part where command_id = $1",
            self.schema
        ));
        let query = sqlx::query_scalar(sql).bind(command).bind(limit);
        Ok(with_deadline(self.deadline, query.fetch_optional(&self.pool))
            .await?
            .unwrap_or_default())
    }

    /// Counts what a transaction wrote, in that transaction. Once all is done, which documents they
    /// were is forgotten.
    pub async fn note_part(
        &self,
        connection: &mut PgConnection,
        step: PartStep,
        (written, deleted, set_aside): (u64, u64, u64),
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.resync_part set done = greatest(done, coalesce($2, done)), ids = case when \
             $2 >= documents then '{{}}' else ids end, rows_written = rows_written + $3, \
             rows_deleted = rows_deleted + $4, set_aside = set_aside + $5 where command_id = $1",
            self.schema
        ));
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let query = sqlx::query(sql)
            .bind(step.command)
            .bind(step.done)
            .bind(number(written))
            .bind(number(deleted))
            .bind(number(set_aside));
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// The latest requests to resync a part, newest first.
    pub async fn parts(&self, limit: i64) -> Result<Vec<PartListed>, Fault> {
        let commands = command::owned(&self.schema, 2);
        let sql = AssertSqlSafe(format!(
            "select c.id as command, c.stream, c.actor, c.db_user, host(c.db_address) as \
             db_address, c.reason, c.at, c.outcome, c.result, p.documents, p.done, p.rows_written, \
             p.rows_deleted, p.set_aside from {}.resync_part as p join {commands} as c on c.id = \
             p.command_id order by p.command_id desc limit $1",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(limit).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_a_part_has_come_is_a_sentence() {
        let mut part =
            PartRow { documents: 1_000, done: 200, rows_written: 7, rows_deleted: 1, set_aside: 0 };
        assert_eq!(part.told(), "200 of 1,000 documents read, 7 rows written, 1 deleted");
        assert!(!part.is_done());
        (part.done, part.set_aside) = (1_000, 2);
        assert!(part.is_done() && part.told().ends_with("1 deleted, 2 set aside"));
    }
}
