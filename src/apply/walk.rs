//! A walk's progress, committed with the rows it is about.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::row_writer::{Applied, RowWriter};
use crate::error::{Code, Fault};
use crate::model::resync_state::ResyncState;
use crate::postgres::with_deadline;
use crate::state::may_become;

/// One step of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    pub id: i64,
    pub step: WalkStep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkStep {
    /// Documents were read up to this place. What was seen is kept unless it is a first snapshot.
    Chunk {
        class: i32,
        after: Option<Vec<u8>>,
        documents_read: u64,
        seen: Option<Seen>,
        then: Then,
    },
    /// Rows the walk did not see were deleted.
    Swept,
    /// Nothing more is done until a person says so.
    Held { code: Code, note: String, rows_to_delete: Option<u64> },
    /// The sweep is done.
    Completed,
}

/// What a walk saw in one chunk: ids, and segments of the table that held its documents and
/// nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub ids: Vec<String>,
    /// First and last id of each segment.
    pub lows: Vec<String>,
    pub highs: Vec<String>,
}

impl Seen {
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.lows.is_empty()
    }
}

/// What comes after a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    MoreChunks,
    Sweep,
    Nothing,
}

impl Then {
    const fn state(self) -> ResyncState {
        match self {
            Self::MoreChunks => ResyncState::Running,
            Self::Sweep => ResyncState::Sweeping,
            Self::Nothing => ResyncState::Completed,
        }
    }
}

impl Walk {
    /// Whether its rows are told apart and reported: not those of a first snapshot.
    pub(super) const fn is_repair(&self) -> bool {
        matches!(&self.step, WalkStep::Chunk { seen: Some(_), .. })
    }

    /// A chunk of a first snapshot with more to come: others may go into the same COPY.
    pub const fn may_be_poured(&self) -> bool {
        self.may_be_lost() && !self.is_repair()
    }

    /// A chunk after which more is to come need not wait for the disk: should Postgres lose it in a
    /// crash, the walk's place is lost with it and the chunk is walked again. What comes after it
    /// waits for everything before.
    pub(super) const fn may_be_lost(&self) -> bool {
        matches!(self.step, WalkStep::Chunk { then: Then::MoreChunks, .. })
    }
}

impl RowWriter<'_> {
    pub(super) async fn advance_walk(
        &self,
        connection: &mut PgConnection,
        walk: &Walk,
        done: &Applied,
    ) -> Result<(), Fault> {
        let updated = match &walk.step {
            WalkStep::Chunk { class, after, documents_read, seen, then } => {
                if let Some(seen) = seen.as_ref().filter(|seen| !seen.is_empty()) {
                    self.note_seen(connection, walk.id, seen).await?;
                }
                // Rows of a first snapshot are all new; only a repair keeps what it has seen, and
                // tells them apart.
                let inserted = if seen.is_none() { done.rows_changed } else { done.rows_inserted };
                let (after, documents_read) = (after.as_deref(), *documents_read);
                let chunk = Chunk { class: *class, after, documents_read, inserted };
                self.chunk(connection, walk.id, &chunk, then.state(), done).await?
            }
            WalkStep::Swept => self.swept(connection, walk.id, done).await?,
            WalkStep::Held { code, note, rows_to_delete } => {
                let rows = rows_to_delete.and_then(|n| i64::try_from(n).ok());
                self.held(connection, walk.id, *code, note, rows).await?
            }
            WalkStep::Completed => self.completed(connection, walk.id).await?,
        };
        if updated == 1 {
            Ok(())
        } else {
            Err(Fault::bug(format!("walk {} is not under way any more", walk.id)))
        }
    }

    async fn note_seen(
        &self,
        connection: &mut PgConnection,
        id: i64,
        seen: &Seen,
    ) -> Result<(), Fault> {
        let schema = self.state_schema;
        let sql = format!(
            "insert into {schema}.resync_seen (resync_id, ids, lows, highs) values ($1, $2, $3, $4)"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .bind(&seen.ids)
            .bind(&seen.lows)
            .bind(&seen.highs);
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }

    async fn chunk(
        &self,
        connection: &mut PgConnection,
        id: i64,
        chunk: &Chunk<'_>,
        state: ResyncState,
        done: &Applied,
    ) -> Result<u64, Fault> {
        let sql = format!(
            "update {}.resync set walk_class = $2, walk_after = $3, documents_read = $4, state = \
             $5, rows_upserted = rows_upserted + $6 + $7, rows_inserted = rows_inserted + $6, \
             rows_changed = rows_changed + $7, sample_ids = (sample_ids || $8)[1:20], updated_at = \
             now(), ended_at = case when $5 = 'completed' then clock_timestamp() end where id = $1 \
             and state = 'running'",
            self.state_schema
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .bind(chunk.class)
            .bind(chunk.after)
            .bind(i64::try_from(chunk.documents_read).unwrap_or(i64::MAX))
            .bind(state.name())
            .bind(i64::try_from(chunk.inserted).unwrap_or(i64::MAX))
            .bind(i64::try_from(done.rows_changed - chunk.inserted).unwrap_or(i64::MAX))
            .bind(&done.sample_ids);
        Ok(with_deadline(self.target.deadline(), query.execute(connection)).await?.rows_affected())
    }

    async fn swept(
        &self,
        connection: &mut PgConnection,
        id: i64,
        done: &Applied,
    ) -> Result<u64, Fault> {
        let sql = format!(
            "update {}.resync set rows_deleted = rows_deleted + $2, sample_ids = (sample_ids || \
             $3)[1:20], updated_at = now() where id = $1 and state = 'sweeping'",
            self.state_schema
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(id)
            .bind(i64::try_from(done.rows_deleted).unwrap_or(i64::MAX))
            .bind(&done.sample_ids);
        Ok(with_deadline(self.target.deadline(), query.execute(connection)).await?.rows_affected())
    }

    async fn held(
        &self,
        connection: &mut PgConnection,
        id: i64,
        code: Code,
        note: &str,
        rows: Option<i64>,
    ) -> Result<u64, Fault> {
        let sql = format!(
            "update {}.resync set state = 'held', held_code = $2, note = $3, rows_to_delete = $4, \
             updated_at = now() where id = $1 and {}",
            self.state_schema,
            may_become(ResyncState::Held)
        );
        let query =
            sqlx::query(AssertSqlSafe(sql)).bind(id).bind(code.name()).bind(note).bind(rows);
        Ok(with_deadline(self.target.deadline(), query.execute(connection)).await?.rows_affected())
    }

    /// The end and the gap report are one statement.
    async fn completed(&self, connection: &mut PgConnection, id: i64) -> Result<u64, Fault> {
        let sql = format!(
            "with ended as (update {0}.resync set state = 'completed', ended_at = \
             clock_timestamp(), updated_at = now() where id = $1 and state = 'sweeping' returning \
             *), forgotten as (delete from {0}.resync_seen where resync_id = $1), forgotten_too as \
             (delete from {0}.resync_kept where resync_id = $1) insert into {0}.gap_report \
             (resync_id, stream, blind_from, blind_until, rows_inserted, rows_changed, \
             rows_deleted, sample_ids) select id, stream, blind_from, blind_until, rows_inserted, \
             rows_changed, rows_deleted, sample_ids from ended",
            self.state_schema
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(id);
        Ok(with_deadline(self.target.deadline(), query.execute(connection)).await?.rows_affected())
    }
}

struct Chunk<'a> {
    class: i32,
    after: Option<&'a [u8]>,
    documents_read: u64,
    /// Of the rows written.
    inserted: u64,
}
