//! The table `checkpoint`: what is stored of a stream, and what a stored position is worth. Who may
//! write to a stream's row is proved by `fence`, with this file's statements.

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnection, PgExecutor};
use sqlx::{AssertSqlSafe, FromRow};

use super::StateTables;
use super::release::FORMAT_VERSION;
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::model::reason::Reason;
use crate::postgres::with_deadline;

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

impl StateTables {
    /// A stream's row, if it has one.
    pub async fn load(&self, stream: &str) -> Result<Option<Stored>, Fault> {
        let sql =
            AssertSqlSafe(format!("select * from {}.checkpoint where stream = $1", self.schema));
        let query = sqlx::query_as(sql).bind(stream);
        with_deadline(self.deadline, query.fetch_optional(&self.pool)).await
    }

    /// Every stream's row.
    pub async fn all(&self) -> Result<Vec<Stored>, Fault> {
        let sql =
            AssertSqlSafe(format!("select * from {}.checkpoint order by stream", self.schema));
        with_deadline(self.deadline, sqlx::query_as(sql).fetch_all(&self.pool)).await
    }

    /// Sets which source and which options the stream's position belongs to from now on, in the
    /// caller's transaction.
    pub(super) async fn position_belongs_to(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        source: &str,
        options: &str,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.checkpoint set source = $2, options = $3 where stream = $1",
            self.schema
        ));
        let query = sqlx::query(sql).bind(stream).bind(source).bind(options);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// How many dead letters of a stream may still pass beyond the rate (`record.*`), because a
    /// person said so by `dead-letter accept`.
    pub async fn letters_accepted(
        &self,
        executor: impl PgExecutor<'_>,
        stream: &str,
    ) -> Result<u64, Fault> {
        let schema = &self.schema;
        let sql = format!("select letters_accepted from {schema}.checkpoint where stream = $1");
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).bind(stream);
        let accepted = with_deadline(self.deadline, query.fetch_optional(executor)).await?;
        Ok(accepted.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
    }

    /// Takes `number` dead letters that have passed off what a person lets pass, in the caller's
    /// transaction.
    pub async fn use_accepted_letters(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        number: u64,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.checkpoint set letters_accepted = letters_accepted - $2 where stream = $1",
            self.schema
        ));
        let query = sqlx::query(sql).bind(stream).bind(i64::try_from(number).unwrap_or(i64::MAX));
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Lets `number` dead letters pass beyond the rate from now on, in place of what was left of an
    /// earlier word. In the caller's transaction.
    pub(super) async fn accept_letters(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        number: i64,
    ) -> Result<(), Fault> {
        let schema = &self.schema;
        let sql = format!("update {schema}.checkpoint set letters_accepted = $2 where stream = $1");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(stream).bind(number.max(0));
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }
}

/// The row that is the holder's of this epoch and nonce: three parameters from the first on.
const HELD: &str = "stream = $1 and epoch = $2 and nonce = $3";

/// Locks the holder's row and answers its revision. Parameters: stream, epoch, nonce.
pub(super) fn locking(schema: &str) -> String {
    format!("select revision from {schema}.checkpoint where {HELD} for update")
}

/// Advances the holder's row. Parameters: stream, epoch, nonce; token's bytes, token's text and
/// cluster time, null where the position stays.
pub(super) fn advancing(schema: &str) -> String {
    format!(
        "update {schema}.checkpoint set resume_token = coalesce($4, resume_token), token = \
         coalesce($5, token), cluster_time = coalesce($6, cluster_time), revision = revision + 1, \
         updated_at = now() where {HELD}"
    )
}

/// Writes the phase into the holder's row. Parameters: stream, epoch, nonce; phase, halt's code,
/// halt's reason.
pub(super) fn noting_phase(schema: &str) -> String {
    format!(
        "update {schema}.checkpoint set phase_since = case when phase = $4 then phase_since else \
         now() end, phase = $4, halt_code = $5, halt_reason = $6 where {HELD}"
    )
}

/// Makes the row another holder's. Parameters: stream, source, options, epoch, nonce.
pub(super) fn granting(schema: &str) -> String {
    format!(
        "insert into {schema}.checkpoint (stream, source, options, epoch, nonce) values ($1, $2, \
         $3, $4, $5) on conflict (stream) do update set epoch = excluded.epoch, nonce = \
         excluded.nonce"
    )
}

/// The epoch of the row of a stream, null without a row.
pub(super) fn epoch_of(schema: &str, stream: &str) -> String {
    format!("(select epoch from {schema}.checkpoint c where c.stream = {stream})")
}

/// Whether the row is still the holder's: `$1` is the stream; epoch and nonce are the parameters of
/// these numbers.
pub(super) fn is_held(schema: &str, epoch: usize, nonce: usize) -> String {
    format!(
        "exists (select from {schema}.checkpoint where stream = $1 and epoch = ${epoch} and nonce \
         = ${nonce})"
    )
}

/// The positions of the table, usable or not, as something to select from.
pub(super) fn positions(schema: &str) -> String {
    format!(
        "(select stream, source, options, resume_token, token, cluster_time, epoch from \
         {schema}.checkpoint where resume_token is not null or token is not null or cluster_time \
         is not null)"
    )
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
