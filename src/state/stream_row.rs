//! What the table `stream` holds of a stream, as it is read and bound.

use chrono::{DateTime, Utc};
use sqlx::FromRow;
use uuid::Uuid;

use crate::model::mapping_digest::MappingDigest;
use crate::model::namespace::Table;
use crate::model::owner::Owner;
use crate::model::position::ClusterTime;

/// The row of a stream.
#[derive(Debug, Clone, FromRow)]
pub struct StreamRow {
    pub stream: String,
    service: String,
    environment: String,
    /// `None` if it is in none: not followed any more, or not yet by this release.
    pub group: Option<String>,
    pub database: Option<String>,
    /// The collection that its rows are of; while it has none, the one that is configured.
    pub collection: Option<String>,
    pub phase: String,
    pub phase_since: DateTime<Utc>,
    /// Why its group goes on without it.
    pub parked_code: Option<String>,
    pub parked_reason: Option<String>,
    pub(super) paused_until: Option<DateTime<Utc>>,
    pub(super) paused_by: Option<String>,
    pub(super) paused_reason: Option<String>,
    /// Until when it is paused has not come.
    pub(super) is_paused: bool,
    pub ahead_until: Option<i64>,
    /// Since when it has not been followed, if it was for a while: its table is as it was then.
    pub left_at: Option<DateTime<Utc>>,
    /// Of which time its table was when its group went on without it, or lost its place; `None` if
    /// nothing is missed. It stands until a walk has made up for that.
    pub blind_from: Option<DateTime<Utc>>,
    /// The replica set's id; `None` where the source did not tell it.
    cluster: Option<String>,
    /// `None` if there was no collection, or the source did not tell it.
    collection_uuid: Option<Uuid>,
    table_schema: Option<String>,
    table_name: Option<String>,
    table_oid: Option<i64>,
    witness_id: Option<String>,
    witness_time: Option<i64>,
    mapping: Option<serde_json::Value>,
}

/// The columns of [`StreamRow`].
pub(super) const COLUMNS: &str = concat!(
    "stream, service, environment, \"group\", database, collection, phase, phase_since, ",
    "parked_code, parked_reason, paused_until, paused_by, paused_reason, ",
    "coalesce(paused_until > clock_timestamp(), false) as is_paused, ",
    "ahead_until, left_at, blind_from, cluster, collection_uuid, ",
    "table_schema, table_name, table_oid, witness_id, witness_time, mapping",
);

/// What a stream's rows are of, and in which table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    pub cluster: Option<String>,
    pub collection_uuid: Option<Uuid>,
    pub table_schema: String,
    pub table_name: String,
    pub table_oid: i64,
    pub witness_id: Option<String>,
    pub witness_time: Option<i64>,
}

impl StreamRow {
    /// `None` if the stream has not begun to be followed, or not by a release that bound it.
    pub fn binding(&self) -> Option<Binding> {
        Some(Binding {
            cluster: self.cluster.clone(),
            collection_uuid: self.collection_uuid,
            table_schema: self.table_schema.clone()?,
            table_name: self.table_name.clone()?,
            table_oid: self.table_oid?,
            witness_id: self.witness_id.clone(),
            witness_time: self.witness_time,
        })
    }

    /// Whether its rows are in this table.
    pub fn is_of(&self, table: &Table) -> bool {
        self.table_oid.is_some()
            && self.table_name.as_ref() == Some(&table.name)
            && self.table_schema.as_ref() == Some(&table.schema)
    }

    /// Whether it is in another group than this one, which has not let it go.
    pub fn is_elsewhere(&self, group: &str) -> bool {
        self.group.as_ref().is_some_and(|of| *of != *group)
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        Owner { service: self.service.clone(), environment: self.environment.clone() }
    }

    /// What its rows were made by; `None` if a release made them that did not say, or says it in
    /// another way.
    pub fn mapping(&self) -> Option<MappingDigest> {
        self.mapping.as_ref().and_then(MappingDigest::stored)
    }

    /// Since when what happened at the source is not in the table. Of a row that an older release
    /// parked or let go, as far as that told.
    pub fn missed_since(&self) -> Option<DateTime<Utc>> {
        let parked_at = self.parked_code.as_ref().map(|_| self.phase_since);
        self.blind_from.or_else(|| [self.left_at, parked_at].into_iter().flatten().min())
    }

    /// Its rows may be of any time up to this one.
    pub fn ahead_until(&self) -> ClusterTime {
        self.ahead_until.map(ClusterTime::from_sql).unwrap_or_default()
    }
}

/// Since when what happens at the source is not in the tables of streams `s` that their group goes
/// on without from now on: since the `time` of its position, if it had not been before.
pub(super) fn missed_since(time: &str) -> String {
    format!(
        "coalesce(s.blind_from, least(now(), {time}, s.left_at, case when s.parked_code is not \
         null then s.phase_since end))"
    )
}

/// What a stream's rows are bound to.
#[derive(Debug, Clone, Copy)]
pub struct BoundTo<'a> {
    pub cluster: Option<&'a str>,
    pub collection: &'a str,
    pub collection_uuid: Option<Uuid>,
    pub table: &'a Table,
    /// Its rows of documents that there are, as something to select from.
    pub living: &'a str,
    /// What the rows are made by.
    pub mapping: &'a MappingDigest,
}
