//! The checkpoint table: what is stored of a stream, and what a stored position is worth.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow};

use crate::error::Fault;
use crate::model::namespace::quote;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::model::reason::Reason;
use crate::postgres::{Pool, Target, with_deadline};

/// The format of tidemark's own tables that this release knows. A row of a newer one is refused,
/// and so are tables whose floor is above it.
pub const FORMAT_VERSION: i32 = 1;

/// tidemark's own tables, in their schema.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    pub(super) pool: Pool,
    pub(super) target: Target,
    /// Quoted, for statements.
    schema: Arc<str>,
    pub(super) plain_schema: Arc<str>,
}

/// One stream's row.
#[derive(Debug, Clone, FromRow)]
pub struct Stored {
    pub stream: String,
    pub source: String,
    pub options: String,
    pub resume_token: Option<Vec<u8>>,
    pub token: Option<String>,
    pub cluster_time: Option<i64>,
    pub epoch: i64,
    pub revision: i64,
    pub phase: String,
    pub phase_since: DateTime<Utc>,
    pub halt_code: Option<String>,
    pub halt_reason: Option<String>,
    pub version: i32,
    pub updated_at: DateTime<Utc>,
}

/// Where a stream begins, told from its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Never followed before: first a position, then a snapshot.
    New,
    Resume(Position),
    /// There is a position, but it cannot be used; the text says why.
    Lost(Reason, String),
    /// Written by a newer release.
    Refused(i32),
}

impl Stored {
    /// What the stored position is worth for a stream of `source` opened with `options`.
    pub fn start(&self, source: &str, options: &str) -> Start {
        if self.version > FORMAT_VERSION {
            return Start::Refused(self.version);
        }
        let lost = |reason, why: &str| Start::Lost(reason, why.to_owned());
        let Some(bytes) = &self.resume_token else {
            return if self.revision == 0 {
                Start::New
            } else {
                lost(Reason::PositionEmpty, "the stored position is empty")
            };
        };
        if self.source != source {
            return Start::Lost(
                Reason::PositionForeign,
                format!("the stored position belongs to {}", self.source),
            );
        }
        if self.options != options {
            return lost(
                Reason::OptionsChanged,
                "the stored position was made under other stream options",
            );
        }
        match (ResumeToken::new(bytes), self.cluster_time) {
            (Ok(token), Some(time)) => {
                Start::Resume(Position { token, cluster_time: ClusterTime::from_sql(time) })
            }
            (Ok(_), None) => lost(Reason::PositionEmpty, "the stored position has no cluster time"),
            (Err(_), _) => lost(Reason::PositionUnreadable, "the stored resume token is not BSON"),
        }
    }
}

impl Checkpoints {
    /// `pool` serves what is not on the data path.
    pub fn new(target: Target, pool: Pool, schema: &str) -> Self {
        Self { pool, target, schema: quote(schema).into(), plain_schema: schema.into() }
    }

    /// The schema, quoted for statements.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// A stream's row, if it has one.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn load(&self, stream: &str) -> Result<Option<Stored>, Fault> {
        let sql =
            AssertSqlSafe(format!("select * from {}.checkpoint where stream = $1", self.schema));
        let query = sqlx::query_as(sql).bind(stream);
        with_deadline(self.target.deadline(), query.fetch_optional(&self.pool)).await
    }

    /// Every stream's row.
    ///
    /// # Errors
    /// The table cannot be read.
    pub async fn all(&self) -> Result<Vec<Stored>, Fault> {
        let sql =
            AssertSqlSafe(format!("select * from {}.checkpoint order by stream", self.schema));
        with_deadline(self.target.deadline(), sqlx::query_as(sql).fetch_all(&self.pool)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        Stored {
            stream: "s".into(),
            source: "db.c".into(),
            options: "v1".into(),
            resume_token: Some(b"\x13\0\0\0\x02_data\0\x03\0\0\082\0\0".to_vec()),
            token: None,
            cluster_time: Some(7),
            epoch: 1,
            revision: 1,
            phase: "streaming".into(),
            phase_since: Utc::now(),
            halt_code: None,
            halt_reason: None,
            version: 1,
            updated_at: Utc::now(),
        }
    }

    #[test]
    fn a_stored_position_is_told_from_one_that_cannot_be_used() {
        let start = |change: fn(&mut Stored)| {
            let mut row = stored();
            change(&mut row);
            row.start("db.c", "v1")
        };
        assert!(matches!(start(|_| {}), Start::Resume(p) if p.cluster_time == ClusterTime::new(7)));
        let lost = |change: fn(&mut Stored)| match start(change) {
            Start::Lost(reason, _) => Some(reason),
            _ => None,
        };
        assert_eq!(
            lost(|r| r.resume_token = Some(b"garbage".to_vec())),
            Some(Reason::PositionUnreadable)
        );
        assert_eq!(lost(|r| r.resume_token = None), Some(Reason::PositionEmpty));
        assert!(matches!(start(|r| (r.resume_token, r.revision) = (None, 0)), Start::New));
        assert_eq!(lost(|r| r.cluster_time = None), Some(Reason::PositionEmpty));
        assert_eq!(lost(|r| r.source = "db.other".into()), Some(Reason::PositionForeign));
        assert_eq!(lost(|r| r.options = "v0".into()), Some(Reason::OptionsChanged));
        assert_eq!(start(|r| r.version = 2), Start::Refused(2));
    }
}
