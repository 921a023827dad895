//! The table `checkpoint`: what is stored of a group, and what a stored position is worth. Who may
//! write to a group's row is proved by `fence`, with this file's statements.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use super::release::FORMAT_VERSION;
use super::{Lease, StateTables};
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position, ResumeToken, resumes_under};
use crate::model::reason::Reason;
use crate::postgres::with_deadline;

/// One group's row.
#[derive(Debug, Clone, FromRow)]
pub struct Stored {
    pub group: String,
    pub database: String,
    pub options: String,
    pub resume_token: Option<Vec<u8>>,
    pub token: Option<String>,
    pub cluster_time: Option<i64>,
    /// The cluster time of the position the group began at, or was moved back to: it need be no
    /// entry of the oplog.
    pub begun_time: Option<i64>,
    pub epoch: i64,
    pub revision: i64,
    pub halt_code: Option<String>,
    pub halt_reason: Option<String>,
    pub version: i32,
    pub updated_at: DateTime<Utc>,
}

/// The columns of [`Stored`].
const COLUMNS: &str = "c.\"group\", c.database, c.options, c.resume_token, c.token, \
                       c.cluster_time, c.begun_time, c.epoch, c.revision, c.halt_code, \
                       c.halt_reason, c.version, c.updated_at";

/// Where a group begins, told from its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Never followed before: first a position, then snapshots.
    New,
    Resume(Position),
    /// There is a position, but it cannot be used; the text says why.
    Lost(Reason, String),
    /// Written by a newer release.
    Refused(i32),
}

/// What is said where a group's database is another one in the configuration than it was.
pub fn of_another_database(before: &str, now: &str) -> String {
    format!(
        "source.database (or `database` of the [[group]]) is {now} now, and was {before}, which \
         the table is of"
    )
}

impl Stored {
    /// What the stored position is worth for collections of `database`, opened with `options`.
    pub fn start(&self, database: &str, options: &str) -> Start {
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
        if self.database != database {
            return Start::Lost(
                Reason::PositionForeign,
                of_another_database(&self.database, database),
            );
        }
        if !resumes_under(&self.options, options) {
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

    pub fn time(&self) -> Option<ClusterTime> {
        self.cluster_time.map(ClusterTime::from_sql)
    }

    /// Whether a position is further on than the stored one, so that what lies between would be
    /// skipped. Tokens that tell their time are in the order of what they stand for, also within
    /// one time.
    pub fn is_behind(&self, position: &Position) -> bool {
        let token = self.resume_token.as_deref().and_then(|bytes| ResumeToken::new(bytes).ok());
        let told = token.filter(|token| token.cluster_time().is_some());
        let hex = |token: &ResumeToken| token.text().to_ascii_uppercase();
        match (told, position.token.cluster_time()) {
            (Some(stored), Some(_)) => hex(&position.token) > hex(&stored),
            _ => self.time().is_some_and(|stored| position.cluster_time > stored),
        }
    }
}

impl StateTables {
    /// A group's row, if it has one.
    pub async fn load(&self, group: &str) -> Result<Option<Stored>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.checkpoint as c where c.\"group\" = $1 and c.service = $2 \
             and c.environment = $3",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(group).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_optional(&self.pool)).await
    }

    /// Every row of the owner's groups.
    pub async fn all(&self) -> Result<Vec<Stored>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.checkpoint as c where c.service = $1 and c.environment = $2 \
             order by c.\"group\"",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// Sets of which database and under which options the group's position is from now on, and at
    /// which time it began. In the caller's fenced transaction.
    pub(super) async fn position_begins(
        &self,
        connection: &mut PgConnection,
        lease: &Lease,
        begun: &BeginsAt<'_>,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.checkpoint set database = $4, options = $5, begun_time = $6 where {HELD}",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce())
            .bind(begun.database)
            .bind(begun.options)
            .bind(begun.time.to_sql());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Notes that the position was moved to `position`, whose time need be no entry of the oplog,
    /// so that it is not taken for a sign of another source.
    pub(super) async fn begin_at(
        &self,
        connection: &mut PgConnection,
        lease: &Lease,
        position: &Position,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.checkpoint set begun_time = $4 where {HELD}",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce())
            .bind(position.cluster_time.to_sql());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Writes down that the group is halted, or that it is not any more, for those who ask the
    /// database. Only under the lease.
    pub async fn note_halt(&self, lease: &Lease, halt: Option<&Fault>) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.checkpoint set halt_code = $4, halt_reason = $5 where {HELD}",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce())
            .bind(halt.map(|fault| fault.code.name()))
            .bind(halt.map(|fault| fault.message.as_str()));
        let deadline = std::time::Duration::from_secs(5);
        with_deadline(deadline, query.execute(&self.pool)).await.map(drop)
    }
}

/// Where a position begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct BeginsAt<'a> {
    pub database: &'a str,
    pub options: &'a str,
    pub time: ClusterTime,
}

/// The row that is the holder's of this epoch and nonce: three parameters from the first on. The
/// nonce is of one grant alone, so it tells the owner, too.
const HELD: &str = "\"group\" = $1 and epoch = $2 and nonce = $3";

/// Locks the holder's row and answers its revision. Parameters: group, epoch, nonce.
pub(super) fn locking(schema: &str) -> String {
    format!("select revision from {schema}.checkpoint where {HELD} for update")
}

/// Advances the holder's row and answers its revision. Parameters: group, epoch, nonce; token's
/// bytes, token's text and cluster time, null where the position stays.
pub(super) fn advancing(schema: &str) -> String {
    format!(
        "update {schema}.checkpoint set resume_token = coalesce($4, resume_token), token = \
         coalesce($5, token), cluster_time = coalesce($6, cluster_time), revision = revision + 1, \
         updated_at = now() where {HELD} returning revision"
    )
}

/// Makes the row another holder's. Parameters: group, service, environment, database, options,
/// epoch, nonce.
pub(super) fn granting(schema: &str) -> String {
    format!(
        "insert into {schema}.checkpoint (\"group\", service, environment, database, options, \
         epoch, nonce) values ($1, $2, $3, $4, $5, $6, $7) on conflict (\"group\", service, \
         environment) do update set epoch = excluded.epoch, nonce = excluded.nonce"
    )
}

/// Makes the rows `c` for which `which` holds nobody's, but not that of the group in `$2` of the
/// owner in `$3` and `$4`.
pub(super) fn fencing_off(schema: &str, which: &str) -> String {
    format!(
        "update {schema}.checkpoint as c set nonce = null, epoch = epoch + 1 where {which} and \
         (c.\"group\", c.service, c.environment) <> ($2, $3, $4)"
    )
}

/// The rows of the table, as something to select from.
pub(super) fn rows(schema: &str) -> String {
    format!("{schema}.checkpoint")
}

/// The epoch of the row of the group in `l`, null without a row.
pub(super) fn epoch_of(schema: &str) -> String {
    format!(
        "(select epoch from {schema}.checkpoint as c where (c.\"group\", c.service, \
         c.environment) = (l.\"group\", l.service, l.environment))"
    )
}

/// The time of the position of the group in `of`, null where it has none.
pub(super) fn time_of(schema: &str, of: &str) -> String {
    format!(
        "(select to_timestamp(c.cluster_time >> 32) from {schema}.checkpoint as c where \
         (c.\"group\", c.service, c.environment) = ({of}.\"group\", {of}.service, \
         {of}.environment))"
    )
}

/// Whether the row is still the holder's: group, epoch and nonce are the parameters of these
/// numbers.
pub(super) fn is_held(schema: &str, group: usize, epoch: usize, nonce: usize) -> String {
    format!(
        "exists (select from {schema}.checkpoint where \"group\" = ${group} and epoch = ${epoch} \
         and nonce = ${nonce})"
    )
}

/// The positions of the table, usable or not, as something to select from.
pub(super) fn positions(schema: &str) -> String {
    format!(
        "(select \"group\", service, environment, nonce, database, options, resume_token, token, \
         cluster_time, epoch from {schema}.checkpoint where resume_token is not null or token is \
         not null or cluster_time is not null)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        Stored {
            group: "main".into(),
            database: "db".into(),
            options: "v1".into(),
            resume_token: Some(b"\x13\0\0\0\x02_data\0\x03\0\0\082\0\0".to_vec()),
            token: None,
            cluster_time: Some(7),
            begun_time: None,
            epoch: 1,
            revision: 1,
            halt_code: None,
            halt_reason: None,
            version: 1,
            updated_at: Utc::now(),
        }
    }

    #[test]
    fn a_position_further_on_is_told_also_within_one_time() {
        let token = |rest: &str| ResumeToken::of_text(&format!("82{:016X}{rest}", 7_u64 << 32));
        let behind = |from: &ResumeToken, to: ResumeToken| {
            let row = Stored { resume_token: Some(from.bytes().into()), ..stored() };
            row.is_behind(&Position::of(to, ClusterTime::default()))
        };
        let (none, first, second) =
            (token("2B0229296E04"), token("2B022C0100296E5A01"), token("2B022C0100296E5A02"));
        assert!(behind(&first, second.clone()), "a later event of the same transaction");
        assert!(behind(&none, first.clone()), "an event after the time's beginning");
        assert!(!behind(&second, first.clone()) && !behind(&first, none));
        assert!(!behind(&first, first.clone()), "where it is");
    }

    #[test]
    fn a_stored_position_is_told_from_one_that_cannot_be_used() {
        let start = |change: fn(&mut Stored)| {
            let mut row = stored();
            change(&mut row);
            row.start("db", "v1")
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
        assert_eq!(lost(|r| r.database = "other".into()), Some(Reason::PositionForeign));
        assert_eq!(lost(|r| r.options = "v0".into()), Some(Reason::OptionsChanged));
        assert_eq!(start(|r| r.version = 3), Start::Refused(3));
    }
}
