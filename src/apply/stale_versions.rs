//! Versions of now that are no row's any more: their row went, or was written anew, while nobody
//! kept versions or without tidemark. No statement about the row ends them, so they are looked for
//! once a walk has completed and when versions begin to be kept.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::statements::Statements;
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::postgres::{Target, with_deadline};

/// Versions looked at by one statement.
const STEP: i64 = 5_000;

/// Ends, step by step, the versions of now whose document has no row, or a newer one: how many.
/// `until` is a time up to which all is applied, so that no change to come is older; it is the end
/// of those without a row. Nothing is waited for: what the writer has in hand it ends itself.
///
/// # Errors
/// Whatever Postgres answers; what was ended by then stays so.
pub async fn end_stale_versions(
    connection: &mut PgConnection,
    target: &Target,
    statements: &Statements,
    until: ClusterTime,
) -> Result<u64, Fault> {
    let sql = &statements.stale_versions;
    let (mut after, mut ended) = (String::new(), 0);
    while !sql.is_empty() {
        let query = sqlx::query_as::<_, (i64, Option<String>)>(AssertSqlSafe(sql.to_string()))
            .bind(&after)
            .bind(STEP)
            .bind(until.to_sql())
            .fetch_one(&mut *connection);
        let (step, last) = with_deadline(target.deadline(), query).await?;
        ended += u64::try_from(step).unwrap_or_default();
        match last {
            Some(last) => after = last,
            None => break,
        }
    }
    Ok(ended)
}

/// Those of some documents that have a version of now and no row, each with the time from which it
/// is: no row tells that they are gone.
///
/// # Errors
/// Whatever Postgres answers.
pub async fn rowless_versions(
    connection: &mut PgConnection,
    target: &Target,
    statements: &Statements,
    ids: &[&str],
) -> Result<HashMap<String, ClusterTime>, Fault> {
    let sql = &statements.rowless_versions;
    if sql.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(sql.to_string()));
    let found = with_deadline(target.deadline(), query.bind(ids).fetch_all(connection)).await?;
    Ok(found.into_iter().map(|(id, from)| (id, ClusterTime::from_sql(from))).collect())
}
