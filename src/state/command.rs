//! The table `command`: what people ask of a stream, recorded with who and why, and carried out by
//! the process that leads the stream (`execution`).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use super::verb::{Outcome, Verb};
use super::{StateTables, stream};
use crate::error::Fault;
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

const COLUMNS: &str = "id, verb, stream, arguments, actor, db_user, host(db_address) as \
                       db_address, reason, at, done_at, outcome, result, attempts";

/// Of requests that have not ended: those whose turn it is.
const DUE: &str = "done_at is null and next_try_at <= clock_timestamp()";

impl StateTables {
    /// Records a request as the owner's. Returns it as recorded.
    pub(super) async fn record_command(
        &self,
        connection: &mut PgConnection,
        verb: Verb,
        stream: &str,
        arguments: &serde_json::Value,
        actor: &str,
        reason: &str,
    ) -> Result<Command, Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {}.command (verb, stream, arguments, actor, reason, service, environment) \
             values ($1, $2, $3, $4, $5, $6, $7) returning {COLUMNS}",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql)
            .bind(verb.name())
            .bind(stream)
            .bind(arguments)
            .bind(actor)
            .bind(reason);
        let query = query.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_one(connection)).await
    }

    /// Takes the oldest request to purge whose turn it is, and counts the try. Should the process
    /// die of it, the request is next tried after `pause`.
    pub async fn take_purge(&self, pause: Duration) -> Result<Option<Command>, Fault> {
        let schema = &self.schema;
        let oldest = format!(
            "(select id from {schema}.command where stream = '' and verb = $2 and service = $3 and \
             environment = $4 and {DUE} order by id limit 1)"
        );
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(trying(schema, &oldest)))
            .bind(pause.as_secs_f64())
            .bind(Verb::Purge.name())
            .bind(&owner.service)
            .bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_optional(&self.pool)).await
    }

    /// The newest request to reload after the one that was `seen`; at the first look, one that is
    /// not answered, or was asked a moment ago.
    pub async fn reload_asked(&self, seen: Option<i64>) -> Result<Option<Command>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.command where verb = $1 and stream = '' and service = $2 and \
             environment = $3 and case when $4::bigint is null then done_at is null or at > now() \
             - interval '1 minute' else id > $4 end order by id desc limit 1",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(Verb::Reload.name());
        let query = query.bind(&owner.service).bind(&owner.environment).bind(seen);
        with_deadline(self.deadline, query.fetch_optional(&self.pool)).await
    }

    /// The newest request of this verb to all processes of the owner.
    pub async fn newest_request(&self, verb: Verb) -> Result<Option<Command>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.command where verb = $1 and stream = '' and service = $2 and \
             environment = $3 order by id desc limit 1",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(verb.name());
        let query = query.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_optional(&self.pool)).await
    }

    /// Records what holds from now on by being recorded, of no stream.
    pub async fn record_done(
        &self,
        verb: Verb,
        arguments: &serde_json::Value,
        actor: &str,
        reason: &str,
        result: &str,
    ) -> Result<Command, Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {}.command (verb, stream, arguments, actor, reason, service, environment, \
             done_at, outcome, result) values ($1, '', $2, $3, $4, $5, $6, now(), '{}', $7) \
             returning {COLUMNS}",
            self.schema,
            Outcome::Done
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(verb.name()).bind(arguments).bind(actor).bind(reason);
        let query = query.bind(&owner.service).bind(&owner.environment).bind(result);
        with_deadline(self.deadline, query.fetch_one(&self.pool)).await
    }

    /// What people last said of muting each code of each stream.
    pub async fn mutes_said(&self) -> Result<Vec<Command>, Fault> {
        let (code, stream) = ("arguments ->> 'code'", "arguments ->> 'stream'");
        let sql = AssertSqlSafe(format!(
            "select distinct on ({code}, {stream}) {COLUMNS} from {}.command where {} and service \
             = $1 and environment = $2 order by {code}, {stream}, id desc",
            self.schema,
            may_mute("")
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// Adds what one process made of a request to all, and of those before it that nobody has
    /// answered, on a line of its own. One refusal makes it refused.
    pub async fn answer_all(
        &self,
        verb: Verb,
        id: i64,
        outcome: Outcome,
        said: &str,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.command set done_at = coalesce(done_at, now()), outcome = case when outcome \
             = '{}' then outcome else $4 end, result = concat_ws(E'\\n', result, $5) where verb = \
             $1 and stream = '' and service = $2 and environment = $3 and (id = $6 or id < $6 and \
             done_at is null)",
            self.schema,
            Outcome::Refused
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql).bind(verb.name());
        let query = query.bind(&owner.service).bind(&owner.environment);
        let query = query.bind(outcome.name()).bind(said).bind(id);
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// Marks a request to purge as ended.
    pub async fn end_purge(&self, id: i64, outcome: Outcome, result: &str) -> Result<(), Fault> {
        let mut connection = with_deadline(self.deadline, self.pool.acquire()).await?;
        self.finish_command(&mut connection, id, outcome, result).await
    }

    /// Puts off a request that could not be carried out yet: it is tried again after `delay`, and
    /// others have their turn meanwhile.
    pub async fn put_off_command(&self, id: i64, delay: Duration, why: &str) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.command set next_try_at = clock_timestamp() + make_interval(secs => $2), \
             result = $3 where id = $1 and done_at is null",
            self.schema
        ));
        let query = sqlx::query(sql).bind(id).bind(delay.as_secs_f64()).bind(why);
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// Puts off a request that has done a part of what it asks, and has more to do: it has its next
    /// turn after `delay`. What it has done so far is no failed try.
    pub async fn go_on_later(&self, id: i64, delay: Duration, told: &str) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.command set attempts = 0, next_try_at = clock_timestamp() + \
             make_interval(secs => $2), result = $3 where id = $1 and done_at is null",
            self.schema
        ));
        let query = sqlx::query(sql).bind(id).bind(delay.as_secs_f64()).bind(told);
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// A request by its id.
    pub async fn command(&self, id: i64) -> Result<Option<Command>, Fault> {
        let sql =
            AssertSqlSafe(format!("select {COLUMNS} from {}.command where id = $1", self.schema));
        with_deadline(self.deadline, sqlx::query_as(sql).bind(id).fetch_optional(&self.pool)).await
    }

    /// The request that began or approved a walk at this moment. Carrying out a request and marking
    /// it as done is one transaction, so both carry the same time.
    pub async fn asked_at(
        &self,
        stream: &str,
        at: DateTime<Utc>,
    ) -> Result<Option<Command>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.command where stream = $1 and done_at = $2 and outcome = \
             '{}' order by id limit 1",
            self.schema,
            Outcome::Done
        ));
        with_deadline(
            self.deadline,
            sqlx::query_as(sql).bind(stream).bind(at).fetch_optional(&self.pool),
        )
        .await
    }

    /// Marks a request as ended, in the transaction that carried it out.
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
            self.schema
        ));
        let query = sqlx::query(sql).bind(id).bind(outcome.name()).bind(result);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }
}

/// Counts a try of the request whose id `oldest` selects, and takes it. Parameters: seconds until
/// the next try; then those of `oldest`.
fn trying(schema: &str, oldest: &str) -> String {
    format!(
        "update {schema}.command set attempts = attempts + 1, next_try_at = clock_timestamp() + \
         make_interval(secs => $1) where id = {oldest} returning {COLUMNS}"
    )
}

/// Takes the oldest request of the streams in `$2` whose turn it is, if `allowed`. Parameters:
/// seconds until the next try, streams; then those of `allowed`.
pub(super) fn taking(schema: &str, allowed: &str) -> String {
    let oldest = format!(
        "(select id from {schema}.command where stream = any($2) and {DUE} order by id limit 1) \
         and {allowed}"
    );
    trying(schema, &oldest)
}

/// Whether it is the turn of a request of one of the streams that `streams` selects.
pub(super) fn is_due(schema: &str, streams: &str) -> String {
    format!("exists (select from {schema}.command where stream in {streams} and {DUE})")
}

/// Whether a request waits that the stream be the owner's of `$2` and `$3`. `$4` is
/// [`Verb::SourceAdopt`].
pub(super) fn is_adopted(schema: &str, stream: &str) -> String {
    format!(
        "exists (select from {schema}.command as c where c.stream = {stream} and c.verb = $4 and \
         c.done_at is null and c.arguments ->> 'service' = $2 and c.arguments ->> 'environment' = \
         $3)"
    )
}

/// Records that incidents were acknowledged, as requests that are done: those in `acked`, with the
/// columns `stream` and `code`, and answers the requests' ids. Parameters: incident, by whom, until
/// when, who asked, service, environment.
pub fn recording_ack(schema: &str) -> String {
    let (verb, done) = (Verb::IncidentAck, Outcome::Done);
    format!(
        "insert into {schema}.command (verb, stream, arguments, actor, reason, done_at, outcome, \
         result, service, environment) select '{verb}', coalesce(stream, ''), \
         jsonb_build_object('incident', $1::bigint, 'by', $2::text, 'until', $3::timestamptz), $4, \
         code, now(), '{done}', 'acknowledged', $5, $6 from acked returning id"
    )
}

/// Takes the ids out of the arguments of the request in `$1`, as a table `named` of its `id` and
/// `ids` to go on from.
pub(super) fn handing_over_ids(schema: &str) -> String {
    format!(
        "with named as (select id, array(select jsonb_array_elements_text(arguments -> 'ids')) as \
         ids from {schema}.command where id = $1 and arguments ? 'ids'), over as (update \
         {schema}.command as c set arguments = c.arguments - 'ids' from named where c.id = \
         named.id)"
    )
}

/// The requests of an owner, as something to select from. Takes the owner as two parameters from
/// the `first` on.
pub(super) fn owned(schema: &str, first: usize) -> String {
    format!(
        "(select * from {schema}.command where service = ${first} and environment = ${})",
        first + 1
    )
}

/// Gives the rows of the stream in `$1` to the one in `$2`: it is called so now.
pub(super) fn renaming(schema: &str) -> String {
    format!("update {schema}.command set stream = $2 where stream = $1")
}

/// What may still keep incidents from being told: a mute ends within a week. `of` names the row.
fn may_mute(of: &str) -> String {
    let (mute, unmute) = (Verb::IncidentMute, Verb::IncidentUnmute);
    format!("{of}verb in ('{mute}', '{unmute}') and {of}at > now() - interval '8 days'")
}

/// Of the rows `t`: those done before `$1`, of the owner in `$2` and `$3`.
pub(super) fn over(schema: &str) -> String {
    let ours = stream::is_ours(schema, "t.stream", 2);
    format!(
        "t.done_at < $1 and not ({}) and (t.service = $2 and t.environment = $3 or t.service is \
         null and {ours})",
        may_mute("t.")
    )
}
