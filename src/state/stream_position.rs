//! The table `stream_position`: where each stream was under a release that gave every stream a
//! position of its own. A group that has none yet begins at the oldest of its streams'.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use super::StateTables;
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::postgres::with_deadline;

/// What was stored of one stream.
#[derive(Debug, Clone, FromRow)]
pub struct OwnPosition {
    pub stream: String,
    /// `database.collection`.
    pub source: String,
    pub resume_token: Option<Vec<u8>>,
    pub cluster_time: Option<i64>,
    pub revision: i64,
}

impl OwnPosition {
    /// The position, if it can be used for a collection.
    pub fn usable(&self, source: &str) -> Option<Position> {
        let token = ResumeToken::new(self.resume_token.as_deref()?).ok()?;
        let cluster_time = ClusterTime::from_sql(self.cluster_time?);
        (self.source == source).then_some(Position { token, cluster_time })
    }
}

impl StateTables {
    /// What is left of these streams.
    pub async fn own_positions(&self, streams: &[&str]) -> Result<Vec<OwnPosition>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select stream, source, resume_token, cluster_time, revision from \
             {}.stream_position where stream = any($1)",
            self.schema
        ));
        let query = sqlx::query_as(sql).bind(streams);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// The group has begun: what these streams had of their own is over. In the caller's fenced
    /// transaction.
    pub(super) async fn forget_own_positions(
        &self,
        connection: &mut PgConnection,
        streams: &[&str],
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "delete from {}.stream_position where stream = any($1)",
            self.schema
        ));
        let query = sqlx::query(sql).bind(streams);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }
}
