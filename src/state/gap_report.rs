//! The table `gap_report`: what a completed resync repaired.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

use super::{StateTables, stream};
use crate::error::Fault;
use crate::postgres::with_deadline;

/// What a resync repaired.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct GapReport {
    pub resync_id: i64,
    pub stream: String,
    pub blind_from: Option<DateTime<Utc>>,
    pub blind_until: Option<DateTime<Utc>>,
    pub rows_inserted: i64,
    pub rows_changed: i64,
    pub rows_deleted: i64,
    pub sample_ids: Vec<String>,
}

const COLUMNS: &str = "stream, blind_from, blind_until, rows_inserted, rows_changed, rows_deleted, \
                       sample_ids";

impl StateTables {
    /// The report of a completed resync.
    pub async fn gap_report(&self, resync: i64) -> Result<Option<GapReport>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select resync_id, {COLUMNS} from {}.gap_report where resync_id = $1",
            self.schema
        ));
        let query = sqlx::query_as(sql).bind(resync);
        with_deadline(self.deadline, query.fetch_optional(&self.pool)).await
    }
}

/// Makes the report of each walk in `ended`.
pub(super) fn making(schema: &str, ended: &str) -> String {
    format!(
        "insert into {schema}.gap_report (resync_id, {COLUMNS}) select id, {COLUMNS} from {ended}"
    )
}

/// Whether there is a report of a resync.
pub(super) fn is_there(schema: &str, resync: &str) -> String {
    format!("exists (select from {schema}.gap_report as g where g.resync_id = {resync})")
}

/// Gives the rows of the stream in `$1` to the one in `$2`: it is called so now.
pub(super) fn renaming(schema: &str) -> String {
    format!("update {schema}.gap_report set stream = $2 where stream = $1")
}

/// Of the rows `t`: those made before `$1`, of the owner in `$2` and `$3`.
pub(super) fn over(schema: &str) -> String {
    format!("t.at < $1 and {}", stream::is_ours(schema, "t.stream", 2))
}
