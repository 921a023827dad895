//! The table `resync_kept`: ids of rows that the live stream met while a resync was open and left
//! as they were. The walk did not see them, and their rows are not stamped anew.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::StateTables;
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::postgres::with_deadline;

impl StateTables {
    /// Keeps those of the ids whose rows are older than `start`, as `older` selects them: a
    /// statement of one column `id` whose parameters are the ids and the time.
    pub async fn keep_older(
        &self,
        connection: &mut PgConnection,
        resync: i64,
        older: &str,
        ids: &[&str],
        start: ClusterTime,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {}.resync_kept (resync_id, id) select $3, older.id from ({older}) as \
             older on conflict do nothing",
            self.schema
        ));
        let query = sqlx::query(sql).bind(ids).bind(start.to_sql()).bind(resync);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }
}

/// Whether an id was kept from the walk in `$2`.
pub(super) fn is_kept(schema: &str, id: &str) -> String {
    format!("exists (select from {schema}.resync_kept as k where k.resync_id = $2 and k.id = {id})")
}

/// Forgets what was kept from walks; `which` says of which walks.
pub(super) fn forgetting(schema: &str, which: &str) -> String {
    format!("delete from {schema}.resync_kept where resync_id {which}")
}
