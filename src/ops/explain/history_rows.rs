//! What is kept of a document's past, where versions are kept: the table beside the followed one.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use crate::error::Fault;
use crate::model::namespace::Table;
use crate::postgres::{Target, with_deadline};

/// Versions of one document.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryRows {
    pub table: String,
    pub versions: i64,
    pub first_at: Option<DateTime<Utc>>,
    pub last_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct Found {
    versions: i64,
    first_at: Option<DateTime<Utc>>,
    last_at: Option<DateTime<Utc>>,
}

/// The versions kept of a document; `None` if there is no table of them, or none of it.
pub(super) async fn of(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    id: &str,
) -> Result<Option<HistoryRows>, Fault> {
    let kept = Table { schema: table.schema.clone(), name: format!("{}_history", table.name) };
    let is_one = "select exists (select from pg_attribute where attrelid = to_regclass($1) and \
                  attname = '_valid_from_at' and not attisdropped)";
    let is_one = sqlx::query_scalar::<_, bool>(is_one).bind(kept.sql());
    if !with_deadline(target.deadline(), is_one.fetch_one(&mut *connection)).await? {
        return Ok(None);
    }
    let sql = AssertSqlSafe(format!(
        "select count(*) as versions, min(h._valid_from_at) as first_at, max(h._valid_from_at) as \
         last_at from {} as h where h.id = $1",
        kept.sql()
    ));
    let query = sqlx::query_as::<_, Found>(sql).bind(id).fetch_one(connection);
    let Found { versions, first_at, last_at } = with_deadline(target.deadline(), query).await?;
    let table = kept.to_string();
    Ok((versions > 0).then_some(HistoryRows { table, versions, first_at, last_at }))
}
