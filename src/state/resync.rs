//! The row of a walk: what a snapshot or a resync continues after a kill, and how it begins and is
//! looked at.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, FromRow};
use uuid::Uuid;

use super::{Bound, Checkpoints, Fence, Lease};
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position};
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::postgres::with_deadline;

/// A walk's row.
#[derive(Debug, Clone, FromRow, PartialEq, Serialize)]
pub struct WalkRow {
    pub id: i64,
    pub stream: String,
    /// As stored: see [`WalkRow::reason`].
    pub reason: String,
    /// As stored: see [`WalkRow::state`].
    pub state: String,
    #[serde(skip)]
    pub walk_class: i32,
    #[serde(skip)]
    pub walk_after: Option<Vec<u8>>,
    pub documents_read: i64,
    pub documents_estimated: Option<i64>,
    pub rows_inserted: i64,
    pub rows_changed: i64,
    pub rows_deleted: i64,
    /// What a held sweep would delete.
    pub rows_to_delete: Option<i64>,
    /// The cluster time the live stream goes on from.
    #[serde(skip)]
    pub start_time: Option<i64>,
    pub blind_from: Option<DateTime<Utc>>,
    pub blind_until: Option<DateTime<Utc>>,
    pub sample_ids: Vec<String>,
    pub held_code: Option<String>,
    pub note: Option<String>,
    pub approved_at: Option<DateTime<Utc>>,
    /// So many rows a person allowed its sweep to delete.
    pub rows_approved: Option<i64>,
    pub deadline_at: Option<DateTime<Utc>>,
    /// The collection it walks; `None` where the source does not tell.
    #[serde(skip)]
    pub collection_uuid: Option<Uuid>,
    /// Until the deadline, on the database's clock.
    #[serde(skip)]
    pub seconds_left: Option<f64>,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// The columns of [`WalkRow`].
const COLUMNS: &str = "id, stream, reason, state, walk_class, walk_after, documents_read, \
                       documents_estimated, rows_inserted, rows_changed, rows_deleted, \
                       rows_to_delete, start_time, blind_from, blind_until, sample_ids, held_code, \
                       note, approved_at, rows_approved, deadline_at, started_at, ended_at, \
                       collection_uuid, extract(epoch from deadline_at - \
                       clock_timestamp())::float8 as seconds_left";

/// For SQL: a walk that has not ended.
pub(super) fn is_open() -> String {
    is_one_of(ResyncState::ALL.into_iter().filter(|state| state.is_open()))
}

/// For SQL: a walk that may go over to this state.
pub fn may_become(state: ResyncState) -> String {
    is_one_of(state.before())
}

fn is_one_of(states: impl Iterator<Item = ResyncState>) -> String {
    let names: Vec<String> = states.map(|state| format!("'{state}'")).collect();
    format!("state in ({})", names.join(", "))
}

impl WalkRow {
    pub fn reason(&self) -> Reason {
        Reason::stored(&self.reason)
    }

    pub fn state(&self) -> ResyncState {
        ResyncState::stored(&self.state)
    }

    pub fn is_snapshot(&self) -> bool {
        self.reason() == Reason::FirstSnapshot
    }

    pub fn start_time(&self) -> ClusterTime {
        self.start_time.map(ClusterTime::from_sql).unwrap_or_default()
    }
}

/// What a resync repaired.
#[derive(Debug, Clone, FromRow, Serialize)]
pub struct GapReport {
    pub resync_id: i64,
    pub stream: String,
    pub blind_from: Option<DateTime<Utc>>,
    pub blind_until: Option<DateTime<Utc>>,
    pub rows_inserted: i64,
    pub rows_changed: i64,
    pub rows_deleted: i64,
    pub sample_ids: Vec<String>,
}

/// What a walk begins with.
#[derive(Debug, Clone)]
pub struct Beginning<'a> {
    pub reason: Reason,
    /// Why the position is retired, for people.
    pub why: &'a str,
    /// The position the live stream goes on from; `None` leaves the stored one.
    pub position: Option<&'a Position>,
    /// The cluster time of the position the stream goes on from.
    pub start_time: ClusterTime,
    pub blind_from: Option<DateTime<Utc>>,
    pub documents_estimated: Option<u64>,
    /// What position and walk speak for, found before the position was taken.
    pub bound: Bound<'a>,
    pub duration_max: Duration,
    /// What the position belongs to from now on.
    pub source: &'a str,
    pub options: &'a str,
}

impl Checkpoints {
    /// The stream's walk that has not ended, if there is one.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn open_walk(&self, stream: &str) -> Result<Option<WalkRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.resync where stream = $1 and {}",
            self.schema(),
            is_open()
        ));
        with_deadline(
            self.target.deadline(),
            sqlx::query_as(sql).bind(stream).fetch_optional(&self.pool),
        )
        .await
    }

    /// The latest walks, newest first.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn walks(&self, limit: i64) -> Result<Vec<WalkRow>, Fault> {
        let (schema, ours) = (self.schema(), self.not_anothers("r.stream", 2));
        let sql = format!(
            "select {COLUMNS} from {schema}.resync as r where {ours} order by id desc limit $1"
        );
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(sql))
            .bind(limit)
            .bind(&owner.service)
            .bind(&owner.environment);
        with_deadline(self.target.deadline(), query.fetch_all(&self.pool)).await
    }

    /// The report of a completed resync.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn gap_report(&self, resync: i64) -> Result<Option<GapReport>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select resync_id, stream, blind_from, blind_until, rows_inserted, rows_changed, \
             rows_deleted, sample_ids from {}.gap_report where resync_id = $1",
            self.schema()
        ));
        with_deadline(
            self.target.deadline(),
            sqlx::query_as(sql).bind(resync).fetch_optional(&self.pool),
        )
        .await
    }

    /// How many resyncs that count were begun in the last 24 hours.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn automatic_today(&self, stream: &str) -> Result<u64, Fault> {
        let sql = AssertSqlSafe(format!(
            "select count(*) from {}.resync where stream = $1 and automatic and started_at > now() \
             - interval '24 hours'",
            self.schema()
        ));
        let query = sqlx::query_scalar::<_, i64>(sql).bind(stream);
        Ok(u64::try_from(with_deadline(self.target.deadline(), query.fetch_one(&self.pool)).await?)
            .unwrap_or_default())
    }

    /// Begins a walk, in a transaction of its own. See [`Checkpoints::begin_walk_in`]. Returns the
    /// revision it made.
    ///
    /// # Errors
    /// Fenced, or whatever Postgres answers.
    pub async fn begin_walk(&self, lease: &Lease, beginning: &Beginning<'_>) -> Result<i64, Fault> {
        let deadline = self.target.deadline();
        let mut connection = self.target.connect().await?;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        let fence = Fence::raise(&mut transaction, &self.target, self, lease).await?;
        self.begin_walk_in(&mut transaction, &fence, lease, beginning).await?;
        with_deadline(deadline, transaction.commit()).await?;
        Ok(fence.revision() + 1)
    }

    /// The walk's row, the position it starts from and the archive of the one before are one
    /// transaction. A walk still open ends as failed: what it had repaired is carried over to the
    /// new one's report.
    ///
    /// # Errors
    /// Fenced, or whatever Postgres answers.
    pub async fn begin_walk_in(
        &self,
        connection: &mut PgConnection,
        fence: &Fence<'_>,
        lease: &Lease,
        beginning: &Beginning<'_>,
    ) -> Result<(), Fault> {
        if beginning.position.is_some() {
            self.retire_position(connection, lease.stream(), beginning.why).await?;
        }
        let schema = self.schema();
        let (failed, running) = (ResyncState::Failed, ResyncState::Running);
        let open = may_become(failed);
        let insert = AssertSqlSafe(format!(
            "with before as (update {schema}.resync set state = '{failed}', ended_at = now(), note \
             = $3 where stream = $1 and {open} returning *), forgotten as (delete from \
             {schema}.resync_seen where resync_id in (select id from before)), forgotten_too as \
             (delete from {schema}.resync_kept where resync_id in (select id from before)) insert \
             into {schema}.resync (stream, reason, state, automatic, start_time, blind_from, \
             blind_until, documents_estimated, deadline_at, rows_inserted, rows_changed, \
             rows_deleted, rows_upserted, sample_ids, collection_uuid) select $1, $2, '{running}', \
             $4, $5, least(before.blind_from, $6), to_timestamp($7), $8, now() + \
             make_interval(secs => $9), coalesce(before.rows_inserted, 0), \
             coalesce(before.rows_changed, 0), coalesce(before.rows_deleted, 0), \
             coalesce(before.rows_upserted, 0), coalesce(before.sample_ids, '{{}}'), $10 from \
             (select 1) as one left join before on true"
        ));
        let reason = beginning.reason;
        let query = sqlx::query(insert)
            .bind(lease.stream())
            .bind(reason.name())
            .bind(beginning.why)
            .bind(reason.is_counted())
            .bind(beginning.start_time.to_sql())
            .bind(beginning.blind_from)
            .bind(f64::from(beginning.start_time.seconds()))
            .bind(beginning.documents_estimated.and_then(|n| i64::try_from(n).ok()))
            .bind((reason != Reason::FirstSnapshot).then_some(beginning.duration_max.as_secs_f64()))
            .bind(beginning.bound.collection_uuid);
        with_deadline(self.target.deadline(), query.execute(&mut *connection)).await?;
        self.bind_in(connection, lease.stream(), &beginning.bound, beginning.position).await?;
        let belongs = AssertSqlSafe(format!(
            "update {schema}.checkpoint set source = $2, options = $3 where stream = $1 and $4"
        ));
        let query = sqlx::query(belongs)
            .bind(lease.stream())
            .bind(beginning.source)
            .bind(beginning.options)
            .bind(beginning.position.is_some());
        with_deadline(self.target.deadline(), query.execute(&mut *connection)).await?;
        fence.advance(connection, &self.target, beginning.position).await
    }
}
