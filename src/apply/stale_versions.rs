//! Versions of now that are no row's any more: their row went, or was written anew, while nobody
//! kept versions or without tidemark. No statement about the row ends them, so they are looked for
//! once a walk has completed and when versions begin to be kept.

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
