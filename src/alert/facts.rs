//! What the rules need that only Postgres knows.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow};

use crate::alert::incident::life::Gap;
use crate::alert::incident::store::Store;
use crate::alert::process::Process;
use crate::alert::rule::causes::{Facts, KnownWalk};
use crate::error::Fault;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::postgres::with_deadline;

const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, FromRow)]
struct WalkRow {
    id: i64,
    stream: String,
    reason: String,
    state: String,
    note: Option<String>,
    lately: bool,
    blind_from: Option<DateTime<Utc>>,
    blind_until: Option<DateTime<Utc>>,
    rows_inserted: i64,
    rows_changed: i64,
    rows_deleted: i64,
}

impl WalkRow {
    fn walk(self) -> KnownWalk {
        let gap = Gap {
            resync: self.id,
            blind_from: self.blind_from,
            blind_until: self.blind_until,
            rows_inserted: self.rows_inserted,
            rows_changed: self.rows_changed,
            rows_deleted: self.rows_deleted,
        };
        KnownWalk {
            stream: self.stream,
            reason: Reason::stored(&self.reason),
            state: ResyncState::stored(&self.state),
            note: self.note,
            gap,
        }
    }
}

impl Store {
    /// Of this service's and environment's streams: others may share these tables.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn facts(&self, me: &Process) -> Result<Facts, Fault> {
        let schema = &self.schema;
        let ours = format!(
            "stream in (select stream from {schema}.stream where service = $1 and environment = $2)"
        );
        let dead = AssertSqlSafe(format!(
            "select stream, count(*) from {schema}.dead_letter where resolved_at is null and \
             {ours} group by stream"
        ));
        let dead =
            sqlx::query_as::<_, (String, i64)>(dead).bind(&*self.service).bind(&*self.environment);
        let dead = with_deadline(DEADLINE, dead.fetch_all(self.pool())).await?;
        // Each stream's newest walk, and its newest that ended.
        let walks = AssertSqlSafe(format!(
            "select distinct on (stream) id, stream, reason, state, note, ended_at > now() - \
             interval '10 minutes' as lately, blind_from, blind_until, rows_inserted, \
             rows_changed, rows_deleted from {schema}.resync where ended_at is not null and {ours} \
             order by stream, id desc"
        ));
        let walks = self.walks(walks).await?;
        let (failed, ended): (Vec<_>, Vec<_>) =
            walks.into_iter().partition(|walk| walk.state == ResyncState::Failed.name());
        let repairs = |walk: &WalkRow| walk.lately && walk.state == ResyncState::Completed.name();
        // What was missed is known by who began the walk, or by the time from which the stream was
        // blind.
        let unrepaired = AssertSqlSafe(format!(
            "select distinct on (stream) id, stream, reason, state, note, false as lately, \
             blind_from, blind_until, rows_inserted, rows_changed, rows_deleted from \
             {schema}.resync r where {ours} and (automatic or blind_from is not null) and state <> \
             'completed' and not exists (select from {schema}.resync c where c.stream = r.stream \
             and c.id > r.id and c.state = 'completed') order by stream, id desc"
        ));
        let unrepaired = self.walks(unrepaired).await?;
        Ok(Facts {
            dead_letters: dead
                .into_iter()
                .map(|(s, n)| (s, u64::try_from(n).unwrap_or_default()))
                .collect::<BTreeMap<_, _>>(),
            ended: ended.into_iter().filter(repairs).map(WalkRow::walk).collect(),
            failed: failed.into_iter().map(WalkRow::walk).collect(),
            unrepaired: unrepaired.into_iter().map(WalkRow::walk).collect(),
            crashes: crate::status::count(self.dead(me).await?.len()),
        })
    }

    async fn walks(&self, sql: AssertSqlSafe<String>) -> Result<Vec<WalkRow>, Fault> {
        let query = sqlx::query_as(sql).bind(&*self.service).bind(&*self.environment);
        with_deadline(DEADLINE, query.fetch_all(self.pool())).await
    }
}
