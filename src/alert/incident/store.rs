//! Incidents in Postgres, read: who watches, what is open, what each channel has still to be told.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::book::REOPEN_WITHIN;
use crate::alert::incident::life::{Ack, Delivery, Detail, Incident, Key, State};
use crate::error::{Code, Fault, Severity};
use crate::model::namespace::quote;
use crate::postgres::{Pool, Target, with_deadline};
use crate::settings::Settings;
use crate::state::{Checkpoints, Outcome, Verb};

/// Every call ends within this time: an alert does not wait for Postgres.
pub(in crate::alert) const DEADLINE: Duration = Duration::from_secs(5);

/// tidemark's tables of incidents.
#[derive(Debug, Clone)]
pub struct Store {
    /// tidemark's own tables, by sessions that incidents have for themselves.
    tables: Checkpoints,
    /// Quoted, for statements.
    pub(in crate::alert) schema: Arc<str>,
    pub(in crate::alert) service: Arc<str>,
    pub(in crate::alert) environment: Arc<str>,
    /// This process, among those that may watch.
    pub(in crate::alert) nonce: Uuid,
}

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

impl Store {
    pub fn new(settings: &Settings, target: &Target) -> Self {
        let schema = &settings.target.state_schema;
        Self {
            tables: Checkpoints::new(target.clone(), target.pool(2), schema).within(DEADLINE),
            schema: quote(schema).into(),
            service: settings.service.as_str().into(),
            environment: settings.environment.as_str().into(),
            nonce: Uuid::new_v4(),
        }
    }

    pub(in crate::alert) const fn tables(&self) -> &Checkpoints {
        &self.tables
    }

    pub const fn pool(&self) -> &Pool {
        self.tables.pool()
    }

    pub const fn process(&self) -> Uuid {
        self.nonce
    }

    /// Becomes or stays the one that watches, unless another is that is not known to be dead. On
    /// the database's clock.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn hold(&self, holder: &str, length: Duration, dead: &[Uuid]) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {0}.watch as w (service, environment, holder, nonce, expires_at) values \
             ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5)) on conflict (service, \
             environment) do update set holder = excluded.holder, nonce = excluded.nonce, \
             expires_at = excluded.expires_at where w.nonce = excluded.nonce or w.expires_at < \
             clock_timestamp() or w.nonce = any($6) returning true",
            self.schema
        ));
        let query = sqlx::query_scalar::<_, bool>(sql)
            .bind(&*self.service)
            .bind(&*self.environment)
            .bind(holder)
            .bind(self.nonce)
            .bind(length.as_secs_f64())
            .bind(dead);
        Ok(with_deadline(DEADLINE, query.fetch_optional(self.pool())).await?.is_some())
    }

    /// Lets another watch at once.
    pub async fn leave(&self) {
        let sql = AssertSqlSafe(format!("delete from {}.watch where nonce = $1", self.schema));
        let _ = with_deadline(
            Duration::from_secs(1),
            sqlx::query(sql).bind(self.nonce).execute(self.pool()),
        )
        .await;
    }

    /// Incidents that are open, may be opened again, or have still to be told; with how far each
    /// channel has got.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn load(
        &self,
        now: DateTime<Utc>,
        channels: &[&'static str],
    ) -> Result<Vec<Incident>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {0}.incident i where service = $1 and environment = $2 and \
             (resolved_at is null or resolved_at > $3 or (resolved_at > $4 and exists (select from \
             {0}.outbox o where o.incident_id = i.id and o.pending and o.channel = any($5)))) \
             order by id",
            self.schema
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
        let sql = AssertSqlSafe(format!(
            "select incident_id, channel, told, version, state from {}.outbox where incident_id = \
             any($1)",
            self.schema
        ));
        let ids: Vec<i64> = incidents.iter().filter_map(|incident| incident.id).collect();
        let query = sqlx::query_as::<_, (i64, String, i32, i32, Json<Delivery>)>(sql).bind(ids);
        for (id, channel, told, version, Json(state)) in
            with_deadline(DEADLINE, query.fetch_all(self.pool())).await?
        {
            let known = channels.iter().find(|name| **name == channel);
            if let Some((incident, channel)) =
                incidents.iter_mut().find(|i| i.id == Some(id)).zip(known)
            {
                let (told, version) = (told.unsigned_abs(), version.unsigned_abs());
                incident.deliveries.insert(channel, Delivery { told, version, ..state });
            }
        }
        Ok(incidents)
    }

    /// Incidents for people: open ones and the latest of the past.
    ///
    /// # Errors
    /// Whatever Postgres answers.
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
    ///
    /// # Errors
    /// Whatever Postgres answers.
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
    ///
    /// # Errors
    /// Whatever Postgres answers.
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

    /// Somebody takes an open incident on; recorded with who and when. `false` if there is no such
    /// open incident.
    ///
    /// # Errors
    /// Whatever Postgres answers; then nothing was changed.
    pub async fn acknowledge(&self, id: i64, ack: &Ack, actor: &str) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!(
            "with acked as (update {0}.incident set acked_by = $2, acked_until = $3 where id = $1 \
             and service = $5 and environment = $6 and resolved_at is null returning stream, code) \
             insert into {0}.command (verb, stream, arguments, actor, reason, done_at, outcome, \
             result, service, environment) select '{1}', coalesce(stream, ''), \
             jsonb_build_object('incident', $1::bigint, 'by', $2::text, 'until', $3::timestamptz), \
             $4, code, now(), '{2}', 'acknowledged', $5, $6 from acked returning id",
            self.schema,
            Verb::IncidentAck,
            Outcome::Done
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
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn acked_as(&self, id: i64) -> Result<Option<(String, Option<String>)>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select acked_user, host(acked_address) from {}.incident where id = $1 and acked_user \
             is not null",
            self.schema
        ));
        with_deadline(DEADLINE, sqlx::query_as(sql).bind(id).fetch_optional(self.pool())).await
    }
}
