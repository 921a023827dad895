//! The table `stream_position`: where a stream was when its group let it go, or under a release
//! that gave every stream a position of its own. A group that takes such streams goes on from the
//! oldest of their positions and its own.

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
    pub options: String,
    pub resume_token: Option<Vec<u8>>,
    pub cluster_time: Option<i64>,
    pub begun_time: Option<i64>,
    pub revision: i64,
    /// That let the stream go; `None` if an older release left it.
    pub group: Option<String>,
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
            "select stream, source, options, resume_token, cluster_time, begun_time, revision, \
             \"group\" from {}.stream_position where stream = any($1)",
            self.schema
        ));
        let query = sqlx::query_as(sql).bind(streams);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// The group has them in hand: what these streams had of their own is over. In the caller's
    /// fenced transaction.
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

/// Remembers where the streams `s` of `from`, which is joined to their groups' rows `c`, are.
pub(super) fn remembering(schema: &str, from: &str) -> String {
    format!(
        "insert into {schema}.stream_position (stream, source, options, resume_token, token, \
         cluster_time, begun_time, revision, \"group\") select s.stream, s.database || '.' || \
         s.collection, c.options, c.resume_token, c.token, c.cluster_time, c.begun_time, \
         c.revision, c.\"group\" from {from} and c.resume_token is not null on conflict (stream) \
         do update set source = excluded.source, options = excluded.options, resume_token = \
         excluded.resume_token, token = excluded.token, cluster_time = excluded.cluster_time, \
         begun_time = excluded.begun_time, revision = excluded.revision, \"group\" = \
         excluded.\"group\""
    )
}

pub(super) fn renaming(schema: &str) -> String {
    let rows = format!("{schema}.stream_position");
    format!(
        "update {rows} set stream = $2 where stream = $1 and not exists (select from {rows} where \
         stream = $2)"
    )
}
