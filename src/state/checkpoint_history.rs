//! The table `checkpoint_history`: positions that were given up for others, kept for as long as
//! `retention.checkpoint_history` says, so that one can see later what was moved, when and why.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{Lease, StateTables, checkpoint, stream};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::postgres::with_deadline;

/// A position that was given up for another.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Retired {
    pub id: i64,
    /// The database; of a position of an older release: database and collection.
    pub source: String,
    pub options: String,
    #[serde(skip)]
    pub resume_token: Option<Vec<u8>>,
    pub token: Option<String>,
    #[serde(skip)]
    pub cluster_time: Option<i64>,
    pub why: String,
    /// What it spoke for; `None` where that was not known.
    pub cluster: Option<String>,
    pub collection_uuid: Option<Uuid>,
    pub retired_at: DateTime<Utc>,
}

impl Retired {
    pub fn at(&self) -> Option<ClusterTime> {
        self.cluster_time.map(ClusterTime::from_sql)
    }
}

impl StateTables {
    /// Archives the group's stored position as it is, usable or not.
    pub(super) async fn retire_position(
        &self,
        connection: &mut PgConnection,
        lease: &Lease,
        why: &str,
    ) -> Result<(), Fault> {
        let schema = &self.schema;
        let (positions, cluster) = (checkpoint::positions(schema), stream::cluster(schema, "c"));
        let sql = AssertSqlSafe(format!(
            "insert into {schema}.checkpoint_history (\"group\", service, environment, source, \
             options, resume_token, token, cluster_time, epoch, why, cluster) select c.\"group\", \
             c.service, c.environment, c.database, options, resume_token, token, cluster_time, \
             epoch, $3, {cluster} from {positions} as c where c.\"group\" = $1 and c.nonce = $2"
        ));
        let query = sqlx::query(sql).bind(lease.group()).bind(lease.nonce()).bind(why);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// The archive of a group, with what a stream of it had under an older release, newest first.
    pub async fn retired(&self, group: &str, stream: &str) -> Result<Vec<Retired>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select id, source, options, resume_token, token, cluster_time, why, retired_at, \
             cluster, collection_uuid from {}.checkpoint_history where stream = $2 or \
             (\"group\", service, environment) = ($1, $3, $4) order by id desc limit 1000",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(group).bind(stream);
        let query = query.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }
}

/// Of the rows `t`: those retired before `$1`, of the owner in `$2` and `$3`. A group's last one
/// stays.
pub(super) fn over(schema: &str) -> String {
    let ours = stream::is_ours(schema, "t.stream", 2);
    format!(
        "t.retired_at < $1 and ({ours} or (t.service, t.environment) = ($2, $3)) and exists \
         (select from {schema}.checkpoint_history as later where (later.stream, later.\"group\", \
         later.service, later.environment) is not distinct from (t.stream, t.\"group\", t.service, \
         t.environment) and later.id > t.id)"
    )
}
