//! Dead letters as they lie in Postgres: listed, looked at, resolved.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::{PgConnection, PgExecutor};
use sqlx::{AssertSqlSafe, FromRow};

use super::Checkpoints;
use crate::error::Fault;
use crate::postgres::with_deadline;

/// One event that was set aside.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Letter {
    pub id: i64,
    pub stream: String,
    pub document_id: Option<String>,
    pub operation: String,
    /// Raw BSON, whole.
    #[serde(skip)]
    pub event: Vec<u8>,
    pub code: String,
    pub error: String,
    pub at: DateTime<Utc>,
    pub resolved_at: Option<DateTime<Utc>>,
    /// `retried` or `discarded`.
    pub resolution: Option<String>,
}

const COLUMNS: &str =
    "id, stream, document_id, operation, event, code, error, at, resolved_at, resolution";

/// Which dead letters are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letters {
    One(i64),
    /// All of a stream that are not resolved; at most so many.
    Open {
        stream: String,
        limit: i64,
    },
    /// The latest, resolved ones too.
    Latest {
        limit: i64,
    },
}

impl Checkpoints {
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn letters(&self, which: &Letters) -> Result<Vec<Letter>, Fault> {
        let (condition, number, stream) = match which {
            Letters::One(id) => ("id = $1", *id, ""),
            Letters::Open { stream, limit } => (
                "stream = $2 and resolved_at is null order by id limit $1",
                *limit,
                stream.as_str(),
            ),
            Letters::Latest { limit } => {
                ("$2 = '' order by resolved_at is not null, id desc limit $1", *limit, "")
            }
        };
        // Each form names both parameters, so that one statement's shape does for all.
        let (schema, ours) = (self.schema(), self.not_anothers("d.stream", 3));
        let sql = format!(
            "select {COLUMNS} from {schema}.dead_letter as d where {ours} and $2::text is not null \
             and {condition}"
        );
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(sql))
            .bind(number)
            .bind(stream)
            .bind(&owner.service)
            .bind(&owner.environment);
        with_deadline(self.target.deadline(), query.fetch_all(&self.pool)).await
    }

    /// Gives letters up for good, in the caller's transaction. They stay in the table.
    pub(super) async fn discard(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        ids: &[i64],
    ) -> Result<u64, Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.dead_letter set resolved_at = now(), resolution = 'discarded' \
             where stream = $1 and id = any($2) and resolved_at is null",
            self.schema()
        ));
        let query = sqlx::query(sql).bind(stream).bind(ids);
        Ok(with_deadline(self.target.deadline(), query.execute(connection)).await?.rows_affected())
    }

    /// How many more dead letters of a stream may pass than an accident brings, because a person
    /// says so.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn letters_accepted(
        &self,
        executor: impl PgExecutor<'_>,
        stream: &str,
    ) -> Result<u64, Fault> {
        let schema = self.schema();
        let sql = format!("select letters_accepted from {schema}.checkpoint where stream = $1");
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).bind(stream);
        let accepted =
            with_deadline(self.target.deadline(), query.fetch_optional(executor)).await?;
        Ok(accepted.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
    }

    /// So many of them have passed, in the caller's transaction.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn use_accepted_letters(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        number: u64,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.checkpoint set letters_accepted = letters_accepted - $2 where stream = $1",
            self.schema()
        ));
        let query = sqlx::query(sql).bind(stream).bind(i64::try_from(number).unwrap_or(i64::MAX));
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }

    /// Lets so many pass from now on, whatever was left of an earlier word. In the caller's
    /// transaction.
    pub(super) async fn accept_letters(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        number: i64,
    ) -> Result<(), Fault> {
        let schema = self.schema();
        let sql = format!("update {schema}.checkpoint set letters_accepted = $2 where stream = $1");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(stream).bind(number.max(0));
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }
}
