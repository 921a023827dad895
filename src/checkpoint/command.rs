//! What people ask of a stream: recorded with who and why, obeyed by whoever leads the stream.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use super::Checkpoints;
use crate::error::Fault;
use crate::postgres::within;

/// One request.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Command {
    pub id: i64,
    pub verb: String,
    pub stream: String,
    pub arguments: serde_json::Value,
    pub actor: String,
    pub reason: String,
    pub at: DateTime<Utc>,
    pub done_at: Option<DateTime<Utc>>,
    pub result: Option<String>,
}

const COLUMNS: &str = "id, verb, stream, arguments, actor, reason, at, done_at, result";

impl Checkpoints {
    /// Records a request. Returns its id.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn request(
        &self,
        verb: &str,
        stream: &str,
        arguments: &serde_json::Value,
        actor: &str,
        reason: &str,
    ) -> Result<i64, Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {}.command (verb, stream, arguments, actor, reason) values ($1, $2, $3, $4, $5) returning id",
            self.schema()
        ));
        let query = sqlx::query_scalar(sql).bind(verb).bind(stream).bind(arguments).bind(actor).bind(reason);
        within(self.target.deadline(), query.fetch_one(&self.pool)).await
    }

    /// The oldest request of a stream that nobody has obeyed yet.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn next_command(&self, stream: &str) -> Result<Option<Command>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.command where stream = $1 and done_at is null order by id limit 1",
            self.schema()
        ));
        within(self.target.deadline(), sqlx::query_as(sql).bind(stream).fetch_optional(&self.pool)).await
    }

    /// A request by its id.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn command(&self, id: i64) -> Result<Option<Command>, Fault> {
        let sql = AssertSqlSafe(format!("select {COLUMNS} from {}.command where id = $1", self.schema()));
        within(self.target.deadline(), sqlx::query_as(sql).bind(id).fetch_optional(&self.pool)).await
    }

    /// Marks a request as obeyed, in the transaction that obeyed it.
    pub(super) async fn finish_command(
        &self,
        connection: &mut PgConnection,
        id: i64,
        result: &str,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.command set done_at = now(), result = $2 where id = $1 and done_at is null",
            self.schema()
        ));
        within(self.target.deadline(), sqlx::query(sql).bind(id).bind(result).execute(connection)).await.map(drop)
    }
}
