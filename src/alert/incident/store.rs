//! The table `incident`: what is open, what was, and who has taken it on.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::book::REOPEN_WITHIN;
use super::life::{Ack, Detail, Incident, Key, State};
use super::{DEADLINE, Store, outbox_rows, watch_row};
use crate::error::{Code, Fault, Severity};
use crate::postgres::with_deadline;
use crate::state::{Over, recording_ack};

/// One row of `incident`.
#[derive(Debug, FromRow)]
struct Row {
    id: i64,
    tag: Uuid,
    code: String,
    stream: Option<String>,
    severity: String,
    state: String,
    opened_at: DateTime<Utc>,
    resolved_at: Option<DateTime<Utc>>,
    count: i64,
    acked_by: Option<String>,
    acked_until: Option<DateTime<Utc>>,
    summary: String,
    detail: Json<Detail>,
}

/// What became of writing an incident's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    As(i64),
    /// The incident's row is gone.
    Gone,
    /// Another process watches for incidents, so nothing was written.
    Aside,
}

/// What Postgres holds of one incident.
#[derive(Debug, FromRow)]
pub struct Held {
    pub tag: Uuid,
    pub open: bool,
    pub revision: i32,
    /// The versions of its deliveries, summed.
    pub versions: i64,
}

const COLUMNS: &str = "id, tag, code, stream, severity, state, opened_at, resolved_at, count, \
                       acked_by, acked_until, summary, detail";

impl Row {
    /// `None` for an incident of a newer release.
    fn incident(self) -> Option<Incident> {
        let key = Key { code: Code::parse(&self.code)?, stream: self.stream };
        let severity = Severity::parse(&self.severity)?;
        let state = match self.state.as_str() {
            "open" => State::Open,
            "resolving" => State::Resolving,
            "resolved" => State::Resolved,
            _ => return None,
        };
        let ack = self.acked_by.zip(self.acked_until).map(|(by, until)| Ack { by, until });
        let count = u64::try_from(self.count).unwrap_or(1);
        let times = (self.opened_at, self.resolved_at);
        let detail = self.detail.0;
        Some(Incident::stored(
            self.id,
            self.tag,
            key,
            severity,
            state,
            times,
            count,
            ack,
            self.summary,
            detail,
        ))
    }
}

/// How many incidents of one code there were.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct IncidentCount {
    pub code: String,
    pub opened: i64,
    pub resolved: i64,
    /// Now.
    pub open: i64,
    /// Those that are open included.
    pub longest_seconds: f64,
}

impl Store {
    /// How many incidents there have been since a time, by code.
    pub async fn incidents_since(&self, since: DateTime<Utc>) -> Result<Vec<IncidentCount>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select code, count(*) filter (where opened_at >= $3) as opened, count(*) filter \
             (where resolved_at >= $3) as resolved, count(*) filter (where resolved_at is null) as \
             open, max(extract(epoch from coalesce(resolved_at, now()) - opened_at))::double \
             precision as longest_seconds from {}.incident where service = $1 and environment = $2 \
             and (opened_at >= $3 or resolved_at >= $3 or resolved_at is null) group by code order \
             by opened desc, code",
            self.schema
        ));
        let query = sqlx::query_as(sql).bind(&*self.service).bind(&*self.environment).bind(since);
        with_deadline(DEADLINE, query.fetch_all(self.pool())).await
    }

    /// Incidents that are open, may be opened again, or have still to be told; with how far each
    /// channel has got.
    pub async fn load(
        &self,
        now: DateTime<Utc>,
        channels: &[&'static str],
    ) -> Result<Vec<Incident>, Fault> {
        let schema = &self.schema;
        let pending = outbox_rows::is_pending(schema, "i.id", "o.channel = any($5)");
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {schema}.incident i where service = $1 and environment = $2 and \
             (resolved_at is null or resolved_at > $3 or (resolved_at > $4 and {pending})) order \
             by id"
        ));
        let names: Vec<&str> = channels.to_vec();
        let query = sqlx::query_as::<_, Row>(sql)
            .bind(&*self.service)
            .bind(&*self.environment)
            .bind(now - REOPEN_WITHIN)
            .bind(now - chrono::TimeDelta::days(7))
            .bind(names);
        let rows = with_deadline(DEADLINE, query.fetch_all(self.pool())).await?;
        let mut incidents: Vec<Incident> = rows.into_iter().filter_map(Row::incident).collect();
        for incident in &mut incidents {
            // An acknowledgement that no watch has taken in yet is taken in as new.
            let told = incident.detail.remind_at;
            incident.ack = incident.ack.take().filter(|ack| ack.until == told);
        }
        self.load_deliveries(&mut incidents, channels).await?;
        Ok(incidents)
    }

    /// The incidents that people ask for: the open ones, and the latest of those that are over.
    pub async fn latest(&self, limit: i64) -> Result<Vec<Incident>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.incident where service = $1 and environment = $2 \
             order by resolved_at desc nulls first, id desc limit $3",
            self.schema
        ));
        let query =
            sqlx::query_as::<_, Row>(sql).bind(&*self.service).bind(&*self.environment).bind(limit);
        let rows = with_deadline(DEADLINE, query.fetch_all(self.pool())).await?;
        Ok(rows.into_iter().filter_map(Row::incident).collect())
    }

    /// One incident of this service and environment.
    pub async fn find(&self, id: i64) -> Result<Option<Incident>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.incident where id = $1 and service = $2 and environment = $3",
            self.schema
        ));
        let query =
            sqlx::query_as::<_, Row>(sql).bind(id).bind(&*self.service).bind(&*self.environment);
        let row = with_deadline(DEADLINE, query.fetch_optional(self.pool())).await?;
        Ok(row.and_then(Row::incident))
    }

    /// Who has taken on which open incident.
    pub async fn acks(&self) -> Result<Vec<(i64, Ack)>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select id, acked_by, acked_until from {}.incident where service = $1 and environment \
             = $2 and resolved_at is null and acked_by is not null and acked_until > now()",
            self.schema
        ));
        let query = sqlx::query_as::<_, (i64, String, DateTime<Utc>)>(sql)
            .bind(&*self.service)
            .bind(&*self.environment);
        let rows = with_deadline(DEADLINE, query.fetch_all(self.pool())).await?;
        Ok(rows.into_iter().map(|(id, by, until)| (id, Ack { by, until })).collect())
    }

    /// Takes an open incident on for somebody, and records by whom and until when. `false` if there
    /// is no such open incident.
    ///
    /// # Errors
    /// Whatever Postgres answers; then nothing was changed.
    pub async fn acknowledge(&self, id: i64, ack: &Ack, actor: &str) -> Result<bool, Fault> {
        let (schema, recording) = (&self.schema, recording_ack(&self.schema));
        let sql = AssertSqlSafe(format!(
            "with acked as (update {schema}.incident set acked_by = $2, acked_until = $3 where id \
             = $1 and service = $5 and environment = $6 and resolved_at is null returning stream, \
             code) {recording}"
        ));
        let query = sqlx::query_scalar::<_, i64>(sql)
            .bind(id)
            .bind(&ack.by)
            .bind(ack.until)
            .bind(actor)
            .bind(&*self.service)
            .bind(&*self.environment);
        Ok(with_deadline(DEADLINE, query.fetch_optional(self.pool())).await?.is_some())
    }

    /// Under which login, and from where, an incident was taken on; `None` where it was not, or
    /// before that was kept.
    pub async fn acked_as(&self, id: i64) -> Result<Option<(String, Option<String>)>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select acked_user, host(acked_address) from {}.incident where id = $1 and acked_user \
             is not null",
            self.schema
        ));
        with_deadline(DEADLINE, sqlx::query_as(sql).bind(id).fetch_optional(self.pool())).await
    }

    /// What Postgres holds of these incidents, and of every other that is open.
    pub async fn held(&self, known: &[Uuid]) -> Result<Vec<Held>, Fault> {
        let (schema, versions) = (&self.schema, outbox_rows::versions(&self.schema, "i.id"));
        let sql = AssertSqlSafe(format!(
            "select tag, resolved_at is null as open, coalesce((detail->>'revision')::integer, 0) \
             as revision, {versions} as versions from {schema}.incident i where service = $1 and \
             environment = $2 and (resolved_at is null or tag = any($3))"
        ));
        let query = sqlx::query_as(sql).bind(&*self.service).bind(&*self.environment).bind(known);
        with_deadline(DEADLINE, query.fetch_all(self.pool())).await
    }

    /// Writes an incident's row. Who has taken it on is left as it is, because only `incident ack`
    /// writes that.
    pub(super) async fn update(&self, incident: &Incident) -> Result<Written, Fault> {
        let (schema, watching) = (&self.schema, watch_row::is_watching(&self.schema, 13));
        let sql = format!(
            "with mine as (select $14 or {watching} as mine), written as (update \
             {schema}.incident set environment = $2, service = $3, code = $4, stream = $5, \
             severity = $6, state = $7, opened_at = $8, resolved_at = $9, count = $10, summary = \
             $11, detail = $12 where tag = $1 and (select mine from mine) returning id) select \
             mine, (select id from written) from mine"
        );
        self.write(sql, incident, false).await
    }

    /// Inserts an incident's row, once, however often it is tried, since the tag is unique. Who has
    /// taken it on is written too, for a row that Postgres had lost.
    pub(super) async fn insert(
        &self,
        incident: &Incident,
        handed_over: bool,
    ) -> Result<Written, Fault> {
        let (schema, watching) = (&self.schema, watch_row::is_watching(&self.schema, 13));
        let sql = format!(
            "with mine as (select $14 or {watching} as mine), written as (insert into \
             {schema}.incident as i (tag, environment, service, code, stream, severity, state, \
             opened_at, resolved_at, count, summary, detail, acked_by, acked_until) select $1, \
             $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $15, $16 from mine where mine on \
             conflict (tag) do update set severity = excluded.severity, state = excluded.state, \
             resolved_at = excluded.resolved_at, count = excluded.count, summary = \
             excluded.summary, detail = excluded.detail returning id) select mine, (select id \
             from written) from mine"
        );
        self.write(sql, incident, handed_over).await
    }

    async fn write(
        &self,
        sql: String,
        incident: &Incident,
        handed_over: bool,
    ) -> Result<Written, Fault> {
        let state = match incident.state {
            State::Open => "open",
            State::Resolving => "resolving",
            State::Resolved => "resolved",
        };
        let inserts = sql.contains("$16");
        let mut query = sqlx::query_as::<_, (bool, Option<i64>)>(AssertSqlSafe(sql))
            .bind(incident.tag)
            .bind(&*self.environment)
            .bind(&*self.service)
            .bind(incident.key.code.name())
            .bind(&incident.key.stream)
            .bind(incident.severity.name())
            .bind(state)
            .bind(incident.opened_at)
            .bind(incident.resolved_at)
            .bind(i64::try_from(incident.count).unwrap_or(i64::MAX))
            .bind(&incident.summary)
            .bind(Json(&incident.detail))
            .bind(self.nonce)
            .bind(handed_over);
        if inserts {
            let ack = incident.ack.as_ref();
            query = query.bind(ack.map(|ack| &ack.by)).bind(ack.map(|ack| ack.until));
        }
        Ok(match with_deadline(DEADLINE, query.fetch_one(self.pool())).await? {
            (_, Some(id)) => Written::As(id),
            (true, None) => Written::Gone,
            (false, None) => Written::Aside,
        })
    }
}

/// Incidents that are resolved, in the state schema.
pub const RESOLVED: Over = Over::new("incident", "id", resolved);

/// Of the rows `t`: those resolved before `$1`, of the owner in `$2` and `$3`. An incident's end is
/// told for a week to a channel that was away: see [`Store::load`].
fn resolved(schema: &str) -> String {
    let pending = outbox_rows::is_pending(schema, "t.id", "true");
    format!(
        "t.resolved_at < $1 and t.service = $2 and t.environment = $3 and (t.resolved_at < now() - \
         interval '7 days' or not {pending})"
    )
}
