//! The table `resync_seen`: what a walk saw, chunk by chunk, as ids or as segments of the followed
//! table that held its documents and nothing else.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::StateTables;
use crate::error::Fault;
use crate::postgres::with_deadline;

impl StateTables {
    /// Keeps what a walk saw in one chunk: ids, and the first and last id of each segment.
    pub async fn note_seen(
        &self,
        connection: &mut PgConnection,
        resync: i64,
        ids: &[String],
        lows: &[String],
        highs: &[String],
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {}.resync_seen (resync_id, ids, lows, highs) values ($1, $2, $3, $4)",
            self.schema
        ));
        let query = sqlx::query(sql).bind(resync).bind(ids).bind(lows).bind(highs);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }
}

/// The segments that the walk in `$1` saw: their first and last ids.
pub(super) fn segments(schema: &str) -> String {
    format!(
        "select s.low, s.high from {schema}.resync_seen as r, unnest(r.lows, r.highs) as s (low, \
         high) where r.resync_id = $1"
    )
}

/// Whether the walk in `$2` saw an id by itself.
pub(super) fn is_seen(schema: &str, id: &str) -> String {
    format!(
        "exists (select from (select unnest(ids) as id from {schema}.resync_seen where resync_id = \
         $2) as s where s.id = {id})"
    )
}

/// Forgets what walks saw; `which` says of which walks.
pub(super) fn forgetting(schema: &str, which: &str) -> String {
    format!("delete from {schema}.resync_seen where resync_id {which}")
}
