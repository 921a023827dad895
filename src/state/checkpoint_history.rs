//! The table `checkpoint_history`: positions that were given up for others, kept for as long as
//! `retention.checkpoint_history` says, so that one can see later what was moved, when and why.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{StateTables, checkpoint, stream};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::postgres::with_deadline;

/// A position that was given up for another.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Retired {
    pub id: i64,
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
    /// Archives the stream's stored position as it is, usable or not.
    pub(super) async fn retire_position(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        why: &str,
    ) -> Result<(), Fault> {
        let schema = &self.schema;
        let (positions, identities) = (checkpoint::positions(schema), stream::identities(schema));
        let sql = AssertSqlSafe(format!(
            "insert into {schema}.checkpoint_history (stream, source, options, resume_token, \
             token, cluster_time, epoch, why, cluster, collection_uuid) select c.stream, source, \
             options, resume_token, token, cluster_time, epoch, $2, s.cluster, s.collection_uuid \
             from {positions} as c left join {identities} as s on s.stream = c.stream where \
             c.stream = $1"
        ));
        let query = sqlx::query(sql).bind(stream).bind(why);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// The archive of a stream, newest first.
    pub async fn retired(&self, stream: &str) -> Result<Vec<Retired>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select id, source, options, resume_token, token, cluster_time, why, retired_at, \
             cluster, collection_uuid from {}.checkpoint_history where stream = $1 order by id \
             desc limit 1000",
            self.schema
        ));
        with_deadline(self.deadline, sqlx::query_as(sql).bind(stream).fetch_all(&self.pool)).await
    }
}

/// Of the rows `t`: those retired before `$1`, of the owner in `$2` and `$3`. A stream's last one
/// stays.
pub(super) fn over(schema: &str) -> String {
    let ours = stream::is_ours(schema, "t.stream", 2);
    format!(
        "t.retired_at < $1 and {ours} and exists (select from {schema}.checkpoint_history as later \
         where later.stream = t.stream and later.id > t.id)"
    )
}
