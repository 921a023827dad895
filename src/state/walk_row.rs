//! What the table `resync` holds of walks, as they are read and noted.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use super::owed_walk::is_doubted;
use crate::model::position::ClusterTime;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;

/// How many walks ended in one way.
#[derive(Debug, Clone, FromRow, PartialEq, Eq, Serialize)]
pub struct WalkCount {
    pub reason: String,
    pub state: String,
    pub number: i64,
}

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
    /// Rows may lack what their hashes say they hold.
    #[serde(skip)]
    pub by_content: bool,
    /// Until the deadline, on the database's clock.
    #[serde(skip)]
    pub seconds_left: Option<f64>,
    /// Since when it has had its turn; `None` while it waits for it.
    #[serde(skip)]
    pub walked_since: Option<DateTime<Utc>>,
    /// The cluster time of the latest of its reads.
    #[serde(skip)]
    pub read_until: Option<i64>,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// The columns of [`WalkRow`], of the table of walks by its own name.
pub(super) fn columns(walks: &str) -> String {
    let doubted = is_doubted(walks);
    format!("{COLUMNS}, (by_content or {doubted}) as by_content")
}

const COLUMNS: &str = concat!(
    "id, stream, reason, state, walk_class, walk_after, documents_read, ",
    "documents_estimated, rows_inserted, rows_changed, rows_deleted, rows_to_delete, ",
    "start_time, blind_from, blind_until, sample_ids, held_code, note, approved_at, ",
    "rows_approved, deadline_at, started_at, ended_at, collection_uuid, walked_since, ",
    "read_until, extract(epoch from deadline_at - clock_timestamp())::float8 as ",
    "seconds_left",
);

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
    /// The cluster time of the latest of its reads.
    pub read_until: ClusterTime,
    /// The state the walk is in from now on.
    pub state: ResyncState,
    pub rows_inserted: u64,
    pub rows_changed: u64,
    pub sample_ids: &'a [String],
}

/// The columns of [`EndedWalk`] but `lately`.
pub(super) const ENDED: &str = "id, stream, reason, state, note, blind_from, blind_until, \
                                rows_inserted, rows_changed, rows_deleted";

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
