//! What people ask of a stream: recorded with who and why, obeyed by whoever leads the stream.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgConnection, PgTypeInfo, PgValueRef};
use sqlx::{AssertSqlSafe, Decode, FromRow, Postgres, Type};

use super::{Checkpoints, Lease};
use crate::error::Fault;
use crate::model::vocabulary::vocabulary;
use crate::postgres::with_deadline;

/// One request.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct Command {
    pub id: i64,
    /// As stored: another release may know others. See [`Verb::parse`].
    pub verb: String,
    pub stream: String,
    pub arguments: serde_json::Value,
    /// Who says they ask.
    pub actor: String,
    /// Who Postgres says asked, and from where: `None` of requests from before that was kept, or
    /// through a socket.
    pub db_user: Option<String>,
    pub db_address: Option<String>,
    pub reason: String,
    pub at: DateTime<Utc>,
    pub done_at: Option<DateTime<Utc>>,
    /// `None` until it has ended.
    pub outcome: Option<Outcome>,
    /// What was done; why it was not; or, until it has ended, why it could not be yet.
    pub result: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
}

impl Command {
    /// Who asked, as they say and as Postgres knows.
    pub fn asked_by(&self) -> String {
        known_as(&self.actor, self.db_user.as_deref(), self.db_address.as_deref())
    }
}

/// A claimed name, and the login it was claimed under.
pub fn known_as(claimed: &str, user: Option<&str>, address: Option<&str>) -> String {
    let login = user.map_or_else(String::new, |user| format!(", as {user}"));
    let place = address.map_or_else(String::new, |address| format!(" from {address}"));
    format!("{claimed}{login}{place}")
}

vocabulary! {
    /// What is asked for, as kept in `command.verb`.
    pub enum Verb {
        Resync = "resync",
        ResyncCancel = "resync_cancel",
        ResyncApprove = "resync_approve",
        CheckpointRewind = "checkpoint_rewind",
        DeadLetterRetry = "dead_letter_retry",
        DeadLetterDiscard = "dead_letter_discard",
        DeadLetterAccept = "dead_letter_accept",
        /// It lets a daemon have a stream of another service or environment.
        SourceAdopt = "source_adopt",
        /// Of no stream: obeyed by the process that watches.
        Purge = "purge",
        /// Done as it is asked, and recorded.
        IncidentAck = "incident ack",
    }
}

vocabulary! {
    /// How a request ended, as kept in `command.outcome`.
    pub enum Outcome {
        Done = "done",
        /// It cannot be meant, as things are: there is nothing to do, or it would do harm.
        Refused = "refused",
        /// It was tried, and could not be done, or not all of it.
        Failed = "failed",
    }
}

impl Type<Postgres> for Outcome {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(found)
    }
}

impl<'r> Decode<'r, Postgres> for Outcome {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let word = <&str as Decode<Postgres>>::decode(value)?;
        Self::parse(word).ok_or_else(|| "an outcome of another release".into())
    }
}

pub(super) const COLUMNS: &str = "id, verb, stream, arguments, actor, db_user, host(db_address) as \
                                  db_address, reason, at, done_at, outcome, result, attempts";

/// Of requests that have not ended: those whose turn it is.
pub(super) const DUE: &str = "done_at is null and next_try_at <= clock_timestamp()";

impl Checkpoints {
    /// Records a request. Returns it as recorded.
    ///
    /// # Errors
    /// The stream is another service's or environment's; or whatever Postgres answers.
    pub async fn request(
        &self,
        verb: Verb,
        stream: &str,
        arguments: &serde_json::Value,
        actor: &str,
        reason: &str,
    ) -> Result<Command, Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {}.command (verb, stream, arguments, actor, reason, service, environment) \
             values ($1, $2, $3, $4, $5, $6, $7) returning {COLUMNS}",
            self.schema()
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql)
            .bind(verb.name())
            .bind(stream)
            .bind(arguments)
            .bind(actor)
            .bind(reason);
        let query = query.bind(&owner.service).bind(&owner.environment);
        let mut connection = with_deadline(self.target.deadline(), self.pool.acquire()).await?;
        if verb != Verb::SourceAdopt {
            self.refuse_strangers(&mut connection, &[stream]).await?;
        }
        let id = with_deadline(self.target.deadline(), query.fetch_one(&mut *connection)).await?;
        connection.give_back();
        Ok(id)
    }

    /// The oldest request of a stream whose turn it is; its try is counted. Should the process end
    /// by it, it is next tried after `pause`.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn take_command(
        &self,
        lease: &Lease,
        pause: Duration,
    ) -> Result<Option<Command>, Fault> {
        let sql = AssertSqlSafe(format!(
            "update {0}.command set attempts = attempts + 1, next_try_at = clock_timestamp() + \
             make_interval(secs => $4) where id = (select id from {0}.command where stream = $1 \
             and {DUE} order by id limit 1) and exists (select from {0}.lease where stream = $1 \
             and epoch = $2 and nonce = $3) returning {COLUMNS}",
            self.schema()
        ));
        let query = sqlx::query_as(sql)
            .bind(lease.stream())
            .bind(lease.epoch())
            .bind(lease.nonce())
            .bind(pause.as_secs_f64());
        with_deadline(self.target.deadline(), query.fetch_optional(&self.pool)).await
    }

    /// A request could not be obeyed yet: it is tried again after `delay`, and others have their
    /// turn.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn put_off_command(&self, id: i64, delay: Duration, why: &str) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.command set next_try_at = clock_timestamp() + make_interval(secs => $2), \
             result = $3 where id = $1 and done_at is null",
            self.schema()
        ));
        let query = sqlx::query(sql).bind(id).bind(delay.as_secs_f64()).bind(why);
        with_deadline(self.target.deadline(), query.execute(&self.pool)).await.map(drop)
    }

    /// A request by its id.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn command(&self, id: i64) -> Result<Option<Command>, Fault> {
        let sql =
            AssertSqlSafe(format!("select {COLUMNS} from {}.command where id = $1", self.schema()));
        with_deadline(
            self.target.deadline(),
            sqlx::query_as(sql).bind(id).fetch_optional(&self.pool),
        )
        .await
    }

    /// The request that began or approved a walk at this moment: what obeys a request and marks it
    /// as done is one transaction, and so one moment.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn asked_at(
        &self,
        stream: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<Command>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.command where stream = $1 and done_at = $2 and outcome = \
             '{}' order by id limit 1",
            self.schema(),
            Outcome::Done
        ));
        with_deadline(
            self.target.deadline(),
            sqlx::query_as(sql).bind(stream).bind(at).fetch_optional(&self.pool),
        )
        .await
    }

    /// Marks a request as ended, in the transaction that obeyed it.
    pub(super) async fn finish_command(
        &self,
        connection: &mut PgConnection,
        id: i64,
        outcome: Outcome,
        result: &str,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.command set done_at = now(), outcome = $2, result = $3 where id = $1 and \
             done_at is null",
            self.schema()
        ));
        let query = sqlx::query(sql).bind(id).bind(outcome.name()).bind(result);
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }
}
