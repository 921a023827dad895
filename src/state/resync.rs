//! The table `resync`: a row a walk, which is what a snapshot or a resync continues after a kill.
//! How a walk begins is in `walk_start`.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::owed_walk::is_owed;
use super::walk_row::{ChunkRead, ENDED, EndedWalk, WalkCount, WalkRow, columns};
use super::{StateTables, checkpoint, gap_report, resync_kept, resync_seen, stream};
use crate::error::{Code, Fault};
use crate::model::position::ClusterTime;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::postgres::with_deadline;

/// For SQL: a walk that has not ended.
fn is_open() -> String {
    is_one_of(ResyncState::ALL.into_iter().filter(|state| state.is_open()))
}

/// The table, for the statements of `cancellation`.
pub(super) fn rows(schema: &str) -> String {
    format!("{schema}.resync")
}

/// For SQL: whether no walk of a stream is open.
pub(super) fn is_whole(schema: &str, stream: &str) -> String {
    let open = is_open();
    format!("not exists (select from {schema}.resync as r where r.stream = {stream} and {open})")
}

/// For SQL: a walk that may go over to this state.
pub(super) fn may_become(state: ResyncState) -> String {
    is_one_of(state.before())
}

fn is_one_of(states: impl Iterator<Item = ResyncState>) -> String {
    let names: Vec<String> = states.map(|state| format!("'{state}'")).collect();
    format!("state in ({})", names.join(", "))
}

impl StateTables {
    /// The walks of these streams that have not ended, oldest first.
    pub async fn open_walks(&self, streams: &[&str]) -> Result<Vec<WalkRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {} from {}.resync where stream = any($1) and {} order by id",
            columns(&rows(&self.schema)),
            self.schema,
            is_open()
        ));
        with_deadline(self.deadline, sqlx::query_as(sql).bind(streams).fetch_all(&self.pool)).await
    }

    /// The stream's walk that has not ended, if there is one.
    pub async fn open_walk(&self, stream: &str) -> Result<Option<WalkRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {} from {}.resync where stream = $1 and {}",
            columns(&rows(&self.schema)),
            self.schema,
            is_open()
        ));
        with_deadline(self.deadline, sqlx::query_as(sql).bind(stream).fetch_optional(&self.pool))
            .await
    }

    /// The latest walks, newest first.
    pub async fn walks(&self, limit: i64) -> Result<Vec<WalkRow>, Fault> {
        let schema = &self.schema;
        let (columns, ours) =
            (columns(&rows(schema)), stream::is_not_anothers(schema, "resync.stream", 2));
        let sql =
            format!("select {columns} from {schema}.resync where {ours} order by id desc limit $1");
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(limit).bind(&owner.service);
        with_deadline(self.deadline, query.bind(&owner.environment).fetch_all(&self.pool)).await
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

    /// Of each of the owner's streams the newest walk that has ended, if it is told of: one that
    /// failed; or that completed a repair in the last ten minutes, or at any time if one of the
    /// same loss did so then; or a first `snapshots` of the last ten minutes.
    pub async fn ended_walks(&self, snapshots: bool) -> Result<Vec<EndedWalk>, Fault> {
        let (schema, ours) = (&self.schema, stream::is_ours(&self.schema, "r.stream", 1));
        let (failed, completed) = (ResyncState::Failed, ResyncState::Completed);
        self.ended(format!(
            "select * from (select *, bool_or(lately) over (partition by blind_from) as told from \
             (select distinct on (stream) {ENDED}, ended_at > now() - interval '10 minutes' as \
             lately from {schema}.resync where ended_at is not null order by stream, id desc) as \
             newest) as r where (state = '{failed}' or state = '{completed}' and (told and reason \
             <> '{}' or lately and {snapshots})) and {ours} order by stream",
            Reason::FirstSnapshot
        ))
        .await
    }

    /// Of each of the owner's streams the newest walk that has not repaired what was missed, with
    /// none completed since. That something was missed is known by who began the walk, or by the
    /// time from which the stream was blind.
    pub async fn unrepaired_walks(&self) -> Result<Vec<EndedWalk>, Fault> {
        let (schema, ours) = (&self.schema, stream::is_ours(&self.schema, "r.stream", 1));
        let completed = ResyncState::Completed;
        self.ended(format!(
            "select * from (select distinct on (stream) {ENDED}, false as lately from \
             {schema}.resync where automatic or blind_from is not null or state = '{completed}' \
             order by stream, id desc) as r where state <> '{completed}' and {ours}"
        ))
        .await
    }

    /// How many of the owner's walks have ended since a time, and how.
    pub async fn walks_since(&self, since: DateTime<Utc>) -> Result<Vec<WalkCount>, Fault> {
        let (schema, ours) = (&self.schema, stream::is_ours(&self.schema, "r.stream", 1));
        let sql = AssertSqlSafe(format!(
            "select reason, state, count(*) as number from {schema}.resync r where ended_at >= $3 \
             and {ours} group by reason, state order by number desc, reason, state"
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.bind(since).fetch_all(&self.pool)).await
    }

    async fn ended(&self, sql: String) -> Result<Vec<EndedWalk>, Fault> {
        let owner = self.target.owner();
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(&owner.service);
        with_deadline(self.deadline, query.bind(&owner.environment).fetch_all(&self.pool)).await
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
             rows_changed = rows_changed + $7, sample_ids = (sample_ids || $8)[1:20], read_until = \
             greatest(read_until, $9), updated_at = now(), ended_at = case when $5 = 'completed' \
             then clock_timestamp() end where id = $1 and state = 'running'",
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
            .bind(chunk.sample_ids)
            .bind(chunk.read_until.to_sql());
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
        read_until: ClusterTime,
    ) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.resync set rows_deleted = rows_deleted + $2, sample_ids = (sample_ids || \
             $3)[1:20], read_until = greatest(read_until, $4), updated_at = now() where id = $1 \
             and state = 'sweeping'",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(id)
            .bind(i64::try_from(rows_deleted).unwrap_or(i64::MAX))
            .bind(sample_ids)
            .bind(read_until.to_sql());
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

    /// What streams with an open walk hold may be of any time up to this one.
    pub(super) async fn note_read(
        &self,
        connection: &mut PgConnection,
        streams: &[&str],
        until: ClusterTime,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.resync set read_until = greatest(read_until, $2) where stream = any($1) and \
             {}",
            self.schema,
            is_open()
        ));
        let query = sqlx::query(sql).bind(streams).bind(until.to_sql());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// The cluster time up to which what a walk's stream holds may be.
    pub async fn read_until(
        &self,
        connection: &mut PgConnection,
        id: i64,
    ) -> Result<ClusterTime, Fault> {
        let sql = AssertSqlSafe(format!(
            "select coalesce(read_until, start_time, 0) from {}.resync where id = $1",
            self.schema
        ));
        let query = sqlx::query_scalar(sql).bind(id);
        let until = with_deadline(self.deadline, query.fetch_one(connection)).await?;
        Ok(ClusterTime::from_sql(until))
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

/// Makes the row of a walk, which waits for its turn. One still open ends as failed: what it had
/// repaired is carried over to the new one's report. Parameters: stream, reason, why; whether it
/// counts towards the day's allowance, the cluster time it starts at, since when the stream was
/// blind, and until when, in seconds; documents estimated, the collection's UUID, whether hashes
/// tell nothing. What was ahead of the position before it is kept, should it be cancelled.
pub(super) fn beginning(schema: &str) -> String {
    let (failed, running) = (ResyncState::Failed, ResyncState::Running);
    let (open, owed) = (may_become(failed), is_owed(&rows(schema), "$1"));
    let forgetting = forgetting(schema, "in (select id from before)");
    let ahead = stream::ahead(schema);
    format!(
        "with before as (update {schema}.resync set state = '{failed}', ended_at = now(), note = \
         $3 where stream = $1 and {open} returning *), {forgetting} insert into {schema}.resync \
         (stream, reason, state, automatic, start_time, blind_from, blind_until, \
         documents_estimated, rows_inserted, rows_changed, rows_deleted, rows_upserted, \
         sample_ids, collection_uuid, read_until, by_content) select $1, $2, '{running}', $4, \
         $5, least(before.blind_from, $6), to_timestamp($7), $8, \
         coalesce(before.rows_inserted, 0), coalesce(before.rows_changed, 0), \
         coalesce(before.rows_deleted, 0), coalesce(before.rows_upserted, 0), \
         coalesce(before.sample_ids, '{{}}'), $9, greatest(before.read_until, {ahead}), $10 or \
         {owed} from (select 1) as one left join before on true returning blind_from"
    )
}

/// Whether a walk of the stream in `$1`, other than that in `$2`, started at the time in `$3`.
pub(super) fn started_at(schema: &str) -> String {
    let other = "stream = $1 and id <> $2 and start_time = $3";
    format!("select exists (select from {schema}.resync where {other})")
}

/// Gives the walk in `$1` its turn, which may last so many seconds as `$2` says, for ever if null.
/// Group, epoch and nonce are three parameters from the `first` on.
pub(super) fn taking_turn(schema: &str, first: usize) -> String {
    let held = checkpoint::is_held(schema, first, first + 1, first + 2);
    format!(
        "update {schema}.resync set walked_since = now(), deadline_at = now() + make_interval(secs \
         => $2) where id = $1 and walked_since is null and {held}"
    )
}

/// Two parts of a `with` that forget what walks saw and kept; `which` says of which walks.
pub(super) fn forgetting(schema: &str, which: &str) -> String {
    let (seen, kept) =
        (resync_seen::forgetting(schema, which), resync_kept::forgetting(schema, which));
    format!("forgotten as ({seen}), forgotten_too as ({kept})")
}

/// Gives the rows of the stream in `$1` to the one in `$2`: it is called so now.
pub(super) fn renaming(schema: &str) -> String {
    format!("update {schema}.resync set stream = $2 where stream = $1")
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
