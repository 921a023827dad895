//! Of which times rows are, by their ids.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::statements::Statements;
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::postgres::{Target, with_deadline};

/// The rows that are there among these ids, each with its time; zero where it carries none.
///
/// # Errors
/// Whatever Postgres answers.
pub async fn row_times(
    connection: &mut PgConnection,
    target: &Target,
    statements: &Statements,
    ids: &[&str],
) -> Result<HashMap<String, ClusterTime>, Fault> {
    let sql = AssertSqlSafe(statements.times.to_string());
    let query = sqlx::query_as::<_, (String, i64)>(sql).bind(ids).fetch_all(connection);
    let rows = with_deadline(target.deadline(), query).await?;
    Ok(rows.into_iter().map(|(id, time)| (id, ClusterTime::from_sql(time))).collect())
}
