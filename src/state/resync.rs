//! The table `resync`: a row a walk, which is what a snapshot or a resync continues after a kill.
//! How a walk begins is in `walk_start`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{StateTables, gap_report, resync_kept, resync_seen, stream};
use crate::error::{Code, Fault};
use crate::model::position::ClusterTime;
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
    /// How many rows a held sweep would delete.
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
    /// How many rows a person has allowed its sweep to delete.
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
fn is_open() -> String {
    is_one_of(ResyncState::ALL.into_iter().filter(|state| state.is_open()))
}

/// For SQL: a walk that may go over to this state.
fn may_become(state: ResyncState) -> String {
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

/// How far a chunk brings a walk.
#[derive(Debug, Clone, Copy)]
pub struct ChunkRead<'a> {
    /// The BSON type class the walk is in, and the last `_id` read in it.
    pub class: i32,
    pub after: Option<&'a [u8]>,
    pub documents_read: u64,
    /// The state the walk is in from now on.
    pub state: ResyncState,
    pub rows_inserted: u64,
    pub rows_changed: u64,
    pub sample_ids: &'a [String],
}

/// A walk that has ended, for those who are told of it.
#[derive(Debug, Clone, FromRow)]
pub struct EndedWalk {
    pub id: i64,
    pub stream: String,
    pub reason: String,
    pub state: String,
    pub note: Option<String>,
    /// In the last ten minutes.
    pub lately: bool,
    pub blind_from: Option<DateTime<Utc>>,
    pub blind_until: Option<DateTime<Utc>>,
    pub rows_inserted: i64,
    pub rows_changed: i64,
    pub rows_deleted: i64,
}

impl StateTables {
    /// The stream's walk that has not ended, if there is one.
    pub async fn open_walk(&self, stream: &str) -> Result<Option<WalkRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.resync where stream = $1 and {}",
            self.schema,
            is_open()
        ));
        with_deadline(self.deadline, sqlx::query_as(sql).bind(stream).fetch_optional(&self.pool))
            .await
    }

    /// The latest walks, newest first.
    pub async fn walks(&self, limit: i64) -> Result<Vec<WalkRow>, Fault> {
        let (schema, ours) = (&self.schema, stream::is_not_anothers(&self.schema, "r.stream", 2));
        let sql = format!(
            "select {COLUMNS} from {schema}.resync as r where {ours} order by id desc limit $1"
        );
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(sql))
            .bind(limit)
            .bind(&owner.service)
            .bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// How many resyncs that count were begun in the last 24 hours.
    pub async fn automatic_today(&self, stream: &str) -> Result<u64, Fault> {
        let sql = AssertSqlSafe(format!(
            "select count(*) from {}.resync where stream = $1 and automatic and started_at > now() \
             - interval '24 hours'",
            self.schema
        ));
        let query = sqlx::query_scalar::<_, i64>(sql).bind(stream);
        Ok(u64::try_from(with_deadline(self.deadline, query.fetch_one(&self.pool)).await?)
            .unwrap_or_default())
    }

    /// Of each of the owner's streams the newest walk that has ended.
    pub async fn ended_walks(&self) -> Result<Vec<EndedWalk>, Fault> {
        let ours = stream::is_ours(&self.schema, "r.stream", 1);
        self.ended(format!(
            "select distinct on (stream) id, stream, reason, state, note, ended_at > now() - \
             interval '10 minutes' as lately, blind_from, blind_until, rows_inserted, \
             rows_changed, rows_deleted from {}.resync r where ended_at is not null and {ours} \
             order by stream, id desc",
            self.schema
        ))
        .await
    }

    /// Of each of the owner's streams the newest walk that has not repaired what was missed, with
    /// none completed since. That something was missed is known by who began the walk, or by the
    /// time from which the stream was blind.
    pub async fn unrepaired_walks(&self) -> Result<Vec<EndedWalk>, Fault> {
        let (schema, ours) = (&self.schema, stream::is_ours(&self.schema, "r.stream", 1));
        self.ended(format!(
            "select distinct on (stream) id, stream, reason, state, note, false as lately, \
             blind_from, blind_until, rows_inserted, rows_changed, rows_deleted from \
             {schema}.resync r where {ours} and (automatic or blind_from is not null) and state <> \
             'completed' and not exists (select from {schema}.resync c where c.stream = r.stream \
             and c.id > r.id and c.state = 'completed') order by stream, id desc"
        ))
        .await
    }

    async fn ended(&self, sql: String) -> Result<Vec<EndedWalk>, Fault> {
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(sql));
        let query = query.bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// A chunk was read and written. `false`: the walk is not reading.
    pub async fn note_chunk(
        &self,
        connection: &mut PgConnection,
        id: i64,
        chunk: &ChunkRead<'_>,
    ) -> Result<bool, Fault> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let sql = AssertSqlSafe(format!(
            "update {}.resync set walk_class = $2, walk_after = $3, documents_read = $4, state = \
             $5, rows_upserted = rows_upserted + $6 + $7, rows_inserted = rows_inserted + $6, \
             rows_changed = rows_changed + $7, sample_ids = (sample_ids || $8)[1:20], updated_at = \
             now(), ended_at = case when $5 = 'completed' then clock_timestamp() end where id = $1 \
             and state = 'running'",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(id)
            .bind(chunk.class)
            .bind(chunk.after)
            .bind(number(chunk.documents_read))
            .bind(chunk.state.name())
            .bind(number(chunk.rows_inserted))
            .bind(number(chunk.rows_changed))
            .bind(chunk.sample_ids);
        let noted = with_deadline(self.deadline, query.execute(connection)).await?;
        Ok(noted.rows_affected() == 1)
    }

    /// Rows that the walk did not see were deleted. `false`: the walk is not sweeping.
    pub async fn note_swept(
        &self,
        connection: &mut PgConnection,
        id: i64,
        rows_deleted: u64,
        sample_ids: &[String],
    ) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.resync set rows_deleted = rows_deleted + $2, sample_ids = (sample_ids || \
             $3)[1:20], updated_at = now() where id = $1 and state = 'sweeping'",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(id)
            .bind(i64::try_from(rows_deleted).unwrap_or(i64::MAX))
            .bind(sample_ids);
        let noted = with_deadline(self.deadline, query.execute(connection)).await?;
        Ok(noted.rows_affected() == 1)
    }

    /// Nothing more is done until a person says so. `false`: the walk is neither reading nor
    /// sweeping.
    pub async fn hold_walk(
        &self,
        connection: &mut PgConnection,
        id: i64,
        code: Code,
        note: &str,
        rows_to_delete: Option<u64>,
    ) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.resync set state = 'held', held_code = $2, note = $3, rows_to_delete = $4, \
             updated_at = now() where id = $1 and {}",
            self.schema,
            may_become(ResyncState::Held)
        ));
        let query = sqlx::query(sql)
            .bind(id)
            .bind(code.name())
            .bind(note)
            .bind(rows_to_delete.and_then(|rows| i64::try_from(rows).ok()));
        let held = with_deadline(self.deadline, query.execute(connection)).await?;
        Ok(held.rows_affected() == 1)
    }

    /// The end of a sweep and the gap report are one statement. `false`: the walk is not sweeping.
    pub async fn complete_walk(
        &self,
        connection: &mut PgConnection,
        id: i64,
    ) -> Result<bool, Fault> {
        let schema = &self.schema;
        let (forgetting, report) =
            (forgetting(schema, "= $1"), gap_report::making(schema, "ended"));
        let sql = AssertSqlSafe(format!(
            "with ended as (update {schema}.resync set state = 'completed', ended_at = \
             clock_timestamp(), updated_at = now() where id = $1 and state = 'sweeping' returning \
             *), {forgetting} {report}"
        ));
        let reported =
            with_deadline(self.deadline, sqlx::query(sql).bind(id).execute(connection)).await?;
        Ok(reported.rows_affected() == 1)
    }

    /// Ends an open walk where it is, but not a first snapshot. `false`: there is no such walk.
    pub(super) async fn cancel_walk(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        id: i64,
        why: &str,
    ) -> Result<bool, Fault> {
        let schema = &self.schema;
        let (cancelled, snapshot) = (ResyncState::Cancelled, Reason::FirstSnapshot);
        let open = may_become(cancelled);
        let forgetting = forgetting(schema, "in (select id from ended)");
        let sql = AssertSqlSafe(format!(
            "with ended as (update {schema}.resync set state = '{cancelled}', ended_at = now(), \
             note = $3 where id = $2 and stream = $1 and {open} and reason <> '{snapshot}' \
             returning id), {forgetting} select count(*) > 0 from ended"
        ));
        let query = sqlx::query_scalar(sql).bind(stream).bind(id).bind(why);
        with_deadline(self.deadline, query.fetch_one(connection)).await
    }

    /// Lets a held walk go on. `false`: there is no such walk.
    pub(super) async fn approve_walk(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        id: i64,
    ) -> Result<bool, Fault> {
        let (schema, sweep) = (&self.schema, Code::ResyncHeld);
        let (held, sweeping, running) =
            (ResyncState::Held, ResyncState::Sweeping, ResyncState::Running);
        let sql = AssertSqlSafe(format!(
            "update {schema}.resync set state = case held_code when '{sweep}' then '{sweeping}' \
             else '{running}' end, approved_at = case held_code when '{sweep}' then now() end, \
             rows_approved = case held_code when '{sweep}' then rows_to_delete end, held_code = \
             null, note = null, deadline_at = null where id = $2 and stream = $1 and state = \
             '{held}'"
        ));
        let query = sqlx::query(sql).bind(stream).bind(id);
        let approved = with_deadline(self.deadline, query.execute(connection)).await?;
        Ok(approved.rows_affected() == 1)
    }
}

/// Makes the row of a walk. One still open ends as failed: what it had repaired is carried over to
/// the new one's report. Parameters: stream, reason, why; whether it counts towards the day's
/// allowance, the cluster time it starts at, since when the stream was blind, and until when, in
/// seconds; documents estimated, seconds it may take, the collection's UUID.
pub(super) fn beginning(schema: &str) -> String {
    let (failed, running) = (ResyncState::Failed, ResyncState::Running);
    let open = may_become(failed);
    let forgetting = forgetting(schema, "in (select id from before)");
    format!(
        "with before as (update {schema}.resync set state = '{failed}', ended_at = now(), note = \
         $3 where stream = $1 and {open} returning *), {forgetting} insert into {schema}.resync \
         (stream, reason, state, automatic, start_time, blind_from, blind_until, \
         documents_estimated, deadline_at, rows_inserted, rows_changed, rows_deleted, \
         rows_upserted, sample_ids, collection_uuid) select $1, $2, '{running}', $4, $5, \
         least(before.blind_from, $6), to_timestamp($7), $8, now() + make_interval(secs => $9), \
         coalesce(before.rows_inserted, 0), coalesce(before.rows_changed, 0), \
         coalesce(before.rows_deleted, 0), coalesce(before.rows_upserted, 0), \
         coalesce(before.sample_ids, '{{}}'), $10 from (select 1) as one left join before on true"
    )
}

/// Two parts of a `with` that forget what walks saw and kept; `which` says of which walks.
fn forgetting(schema: &str, which: &str) -> String {
    let (seen, kept) =
        (resync_seen::forgetting(schema, which), resync_kept::forgetting(schema, which));
    format!("forgotten as ({seen}), forgotten_too as ({kept})")
}

/// Of the rows `t`: those ended before `$1`, of the owner in `$2` and `$3`. A stream's last
/// completed one tells how the table came to be as it is, and one that nothing has repaired since
/// is told of still. Those of a day count towards `resync.automatic_per_day_max`.
pub(super) fn over(schema: &str) -> String {
    let ours = stream::is_ours(schema, "t.stream", 2);
    let reported = gap_report::is_there(schema, "t.id");
    format!(
        "t.ended_at < $1 and t.ended_at < now() - interval '1 day' and {ours} and exists \
         (select from {schema}.resync as later where later.stream = t.stream and later.id \
         > t.id and later.state = 'completed') and not {reported}"
    )
}

/// Forgets the ids that walks ended before `$1` have sampled, of the owner in `$2` and `$3`, and
/// answers how many walks that were.
pub(super) fn forgetting_samples(schema: &str) -> String {
    let ours = stream::is_ours(schema, "t.stream", 2);
    format!(
        "with gone as (update {schema}.resync as t set sample_ids = '{{}}' where t.ended_at < $1 \
         and t.sample_ids <> '{{}}' and {ours} returning 1) select count(*) from gone"
    )
}
