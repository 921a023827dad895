//! As of which times tables were filled by their first snapshots. The statement is one of the table
//! `resync`.

use std::collections::HashMap;

use sqlx::AssertSqlSafe;

use super::{StateTables, resync};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::postgres::with_deadline;

impl StateTables {
    /// Of those of these streams whose tables a first snapshot fills, or has filled, the time at
    /// which the collection was looked at: what is older is in the table already. If a walk made up
    /// for something since, that one's time counts, which may be another source's.
    pub async fn filled_at(&self, streams: &[&str]) -> Result<HashMap<String, ClusterTime>, Fault> {
        let made_up = Reason::ALL.into_iter().filter(|reason| reason.makes_up());
        let made_up: Vec<String> = made_up.map(|reason| format!("'{reason}'")).collect();
        let sql = AssertSqlSafe(format!(
            "select r.stream, max(r.start_time) from {walks} as r where r.stream = any($1) and \
             r.reason = '{snapshot}' and r.start_time is not null and r.state not in \
             ('{failed}', '{cancelled}') and not exists (select from {walks} as a where a.stream = \
             r.stream and a.id > r.id and a.reason in ({made_up})) group by r.stream",
            walks = resync::rows(&self.schema),
            failed = ResyncState::Failed,
            cancelled = ResyncState::Cancelled,
            snapshot = Reason::FirstSnapshot,
            made_up = made_up.join(", "),
        ));
        let query = sqlx::query_as::<_, (String, i64)>(sql).bind(streams).fetch_all(&self.pool);
        let filled = with_deadline(self.deadline, query).await?.into_iter();
        Ok(filled.map(|(stream, at)| (stream, ClusterTime::from_sql(at))).collect())
    }
}
