//! The table `stream`: in which group a stream is, what its rows are of, and whose it is. A
//! position is only a time, and a time fits any cluster, any collection of that name, any table.
//!
//! Of the table it remembers a *witness* (`witness`): the newest row tidemark wrote, as far as it
//! knows. A table without it is not the one the position speaks for: it was emptied, replaced, or
//! restored from an older backup.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::StateTables;
use crate::error::{Class, Code, Fault};
use crate::model::mapping_digest::MappingDigest;
use crate::model::namespace::Table;
use crate::model::owner::Owner;
use crate::model::position::ClusterTime;
use crate::postgres::with_deadline;

/// The row of a stream.
#[derive(Debug, Clone, FromRow)]
pub struct StreamRow {
    pub stream: String,
    service: String,
    environment: String,
    /// `None` if it is in none: not followed any more, or not yet by this release.
    pub group: Option<String>,
    /// The collection it follows, as configured when it was last led.
    pub database: Option<String>,
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
const COLUMNS: &str = concat!(
    "stream, service, environment, \"group\", database, collection, phase, phase_since, ",
    "parked_code, parked_reason, paused_until, paused_by, paused_reason, ",
    "coalesce(paused_until > clock_timestamp(), false) as is_paused, ",
    "ahead_until, left_at, cluster, collection_uuid, ",
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

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        Owner { service: self.service.clone(), environment: self.environment.clone() }
    }

    /// What its rows were made by; `None` if a release made them that did not say, or says it in
    /// another way.
    pub fn mapping(&self) -> Option<MappingDigest> {
        self.mapping.as_ref().and_then(MappingDigest::stored)
    }

    /// Its rows may be of any time up to this one.
    pub fn ahead_until(&self) -> ClusterTime {
        self.ahead_until.map(ClusterTime::from_sql).unwrap_or_default()
    }
}

/// What a stream's rows are bound to.
#[derive(Debug, Clone, Copy)]
pub struct BoundTo<'a> {
    pub cluster: Option<&'a str>,
    pub collection_uuid: Option<Uuid>,
    pub table: &'a Table,
    /// Its rows of documents that there are, as something to select from.
    pub living: &'a str,
    /// What the rows are made by.
    pub mapping: &'a MappingDigest,
}

impl StateTables {
    /// The rows of all of the owner's streams.
    pub async fn streams(&self) -> Result<Vec<StreamRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.stream where service = $1 and environment = $2 order by \
             stream",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// A stream's row, whoever's it is.
    pub async fn stream_row(&self, stream: &str) -> Result<Option<StreamRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select {COLUMNS} from {}.stream where stream = $1",
            self.schema
        ));
        with_deadline(self.deadline, sqlx::query_as(sql).bind(stream).fetch_optional(&self.pool))
            .await
    }

    /// What a stream is bound to; `None` if it never was, as under the first release.
    pub async fn binding(&self, stream: &str) -> Result<Option<Binding>, Fault> {
        Ok(self.stream_row(stream).await?.and_then(|row| row.binding()))
    }

    /// Binds a stream, in the caller's fenced transaction.
    pub(super) async fn bind_in(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        bound: &BoundTo<'_>,
    ) -> Result<(), Fault> {
        let (schema, table, living) = (&self.schema, bound.table.sql(), bound.living);
        let sql = AssertSqlSafe(format!(
            "insert into {schema}.stream as s (stream, service, environment, cluster, \
             collection_uuid, table_schema, table_name, table_oid, witness_id, witness_time, \
             mapping) select $1, $2, $3, $4, $5, $6, $7, $8::regclass::oid::bigint, w.id, w.time, \
             $9 from (select 1) as one left join (select t.id, coalesce(t._cluster_time, 0) as \
             time from {living} as t order by t.id limit 1) as w on true on conflict (stream) do \
             update set service = excluded.service, environment = excluded.environment, cluster = \
             excluded.cluster, collection_uuid = excluded.collection_uuid, table_schema = \
             excluded.table_schema, table_name = excluded.table_name, table_oid = \
             excluded.table_oid, witness_id = excluded.witness_id, witness_time = \
             excluded.witness_time, mapping = excluded.mapping, left_at = null"
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql)
            .bind(stream)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(bound.cluster)
            .bind(bound.collection_uuid)
            .bind(&bound.table.schema)
            .bind(&bound.table.name)
            .bind(&table)
            .bind(Json(bound.mapping));
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Refuses a table that a stream of another service or environment is bound to, before anything
    /// is added to it.
    ///
    /// # Errors
    /// It is such a one; or whatever Postgres answers.
    pub async fn refuse_table(
        &self,
        connection: &mut PgConnection,
        table: &Table,
    ) -> Result<(), Fault> {
        let owner = self.target.owner();
        let sql = AssertSqlSafe(format!(
            "select s.stream, s.service, s.environment from {}.stream as s where (s.table_oid = \
             to_regclass($1)::oid::bigint or s.table_schema = $4 and s.mapping -> 'children' ? $5) \
             and (s.service, s.environment) is distinct from ($2, $3) order by s.stream limit 1",
            self.schema
        ));
        let query = sqlx::query_as::<_, (String, String, String)>(sql).bind(table.sql());
        let query = query.bind(&owner.service).bind(&owner.environment);
        let query = query.bind(&table.schema).bind(&table.name);
        match with_deadline(self.deadline, query.fetch_optional(connection)).await? {
            None => Ok(()),
            Some((stream, service, environment)) => {
                let bound = Owner { service, environment };
                let message = format!(
                    "table {table} is followed into by stream {stream} of {bound}, and this is \
                     {owner}"
                );
                let hint = "name another table in [[stream]]; if that stream is over, delete its \
                            row from the table `stream` of the state schema";
                Err(Fault::new(Class::Halt, Code::SourceForeign, message, hint))
            }
        }
    }
}

/// The beginning of an update of the table, whose rows are `s`.
pub(super) fn changing(schema: &str) -> String {
    format!("update {schema}.stream as s")
}

/// Those of the streams in `$1` whose rows nobody has locked; they are then.
pub(super) fn free(schema: &str) -> String {
    format!(
        "select stream from {schema}.stream where stream = any($1) for no key update skip locked"
    )
}

/// Answers how many more dead letters of the stream in `$1` may pass.
pub(super) fn accepting(schema: &str) -> String {
    format!("select letters_accepted from {schema}.stream where stream = $1")
}

/// The table's name, as `to_regclass` takes it.
pub(super) fn name(schema: &str) -> String {
    format!("{schema}.stream")
}

/// The streams of the group in `$1`, of the owner in `$2` and `$3` and the database in `$4`, that
/// are called otherwise now: those whose names are not among `$5`, each with the name in `$6` of
/// the new stream with its collection in `$7` and its table in `$8` and `$9`.
pub(super) fn renamed(schema: &str) -> String {
    format!(
        "select s.stream, m.stream from {schema}.stream as s join unnest($6::text[], $7::text[], \
         $8::text[], $9::text[]) as m (stream, collection, table_schema, table_name) on \
         (m.collection, m.table_schema, m.table_name) = (s.collection, s.table_schema, \
         s.table_name) where s.\"group\" = $1 and s.service = $2 and s.environment = $3 and \
         s.database = $4 and s.stream <> all($5) and s.left_at is null and not exists (select \
         from {schema}.stream as t where t.stream = m.stream) order by s.stream for update of s"
    )
}

/// Calls the stream in `$1` by the name in `$2`.
pub(super) fn renaming(schema: &str) -> String {
    format!("update {schema}.stream set stream = $2, report = null where stream = $1")
}

/// Lets the streams in `$1` go: they are not followed any more, and their tables stay.
pub(super) fn letting_go(schema: &str) -> String {
    format!(
        "update {schema}.stream set left_at = now(), \"group\" = null, report = null where stream \
         = any($1)"
    )
}

/// The streams `s` among those in `$1` that are followed as they should be, with the rows `c` of
/// their groups, which `groups` gives: something to select from, and a condition.
pub(super) fn followed(schema: &str, groups: &str, whole: &str) -> String {
    format!(
        "{schema}.stream as s join {groups} as c on (c.\"group\", c.service, c.environment) = \
         (s.\"group\", s.service, s.environment) where s.stream = any($1) and s.left_at is null \
         and s.parked_code is null and {whole}"
    )
}

/// The same of those that are in another group than that in `$2` of the owner in `$3` and `$4`,
/// which is not `led`.
pub(super) fn moving_to(schema: &str, groups: &str, led: &str, whole: &str) -> String {
    format!(
        "{} and s.\"group\" <> $2 and (s.service, s.environment) = ($3, $4) and not {led}",
        followed(schema, groups, whole)
    )
}

/// Makes the rows of the streams in `$5` and takes those into the group that are in none, or in one
/// that is not `led`. Parameters: service, environment, group, database; streams, collections.
pub(super) fn enrolling(schema: &str, led: &str) -> String {
    format!(
        "insert into {schema}.stream as s (stream, service, environment, \"group\", database, \
         collection) select m.stream, $1, $2, $3, $4, m.collection from unnest($5::text[], \
         $6::text[]) as m (stream, collection) on conflict (stream) do update set service = \
         excluded.service, environment = excluded.environment, \"group\" = \
         excluded.\"group\", database = excluded.database, collection = excluded.collection, \
         left_at = case when (s.service, s.environment, s.\"group\") <> (excluded.service, \
         excluded.environment, excluded.\"group\") then coalesce(s.left_at, now()) else \
         s.left_at end where (s.service, s.environment, s.\"group\", s.database, \
         s.collection) is distinct from (excluded.service, excluded.environment, \
         excluded.\"group\", excluded.database, excluded.collection) and (s.\"group\" is \
         null or (s.service, s.environment, s.\"group\") = (excluded.service, \
         excluded.environment, excluded.\"group\") or not {led})"
    )
}

/// Of the rows `c` of another table: those of groups that the streams in `$1` are in, and that are
/// not `led`.
pub(super) fn are_of(schema: &str, led: &str) -> String {
    format!(
        "exists (select from {schema}.stream as s where s.stream = any($1) and (s.\"group\", \
         s.service, s.environment) = (c.\"group\", c.service, c.environment) and not {led})"
    )
}

/// The streams of the group in `of`, as something to be one of.
pub(super) fn of_group(schema: &str, of: &str) -> String {
    format!(
        "(select s.stream from {schema}.stream as s where (s.\"group\", s.service, s.environment) \
         = ({of}.\"group\", {of}.service, {of}.environment))"
    )
}

/// The cluster that the rows of the group in `of` are of, null where no stream of it tells.
pub(super) fn cluster(schema: &str, of: &str) -> String {
    format!(
        "(select max(s.cluster) from {schema}.stream as s where (s.\"group\", s.service, \
         s.environment) = ({of}.\"group\", {of}.service, {of}.environment))"
    )
}

/// Streams with what is said of them, as something to select from.
pub(super) fn reported(schema: &str) -> String {
    format!("(select stream, \"group\", service, environment, report from {schema}.stream)")
}

/// Whether a stream is the owner's. Takes the owner as two parameters from the `first` on.
///
/// It is found by its name, a row at a time, which the planner cannot turn into a join: while there
/// are no statistics it takes the owner's streams for one, and would read the other table for each.
pub(super) fn is_ours(schema: &str, stream: &str, first: usize) -> String {
    format!(
        "(select (s.service, s.environment) = (${first}, ${}) from {schema}.stream as s where \
         s.stream = {stream}) is true",
        first + 1
    )
}

/// Whether a stream is no other service's or environment's: it may be nobody's yet. Takes the owner
/// as two parameters from the `first` on.
pub(super) fn is_not_anothers(schema: &str, stream: &str, first: usize) -> String {
    format!(
        "not exists (select from {schema}.stream as whose where whose.stream = {stream} \
         and (whose.service, whose.environment) is distinct from (${first}, ${}))",
        first + 1
    )
}

/// For SQL: the first of the streams in `$1` that belongs to another owner than the one in `$2` and
/// `$3`. Streams for which `excused` holds are left out; it names them `s.stream`.
pub(super) fn strangers(schema: &str, excused: &str) -> String {
    format!(
        "select s.stream, s.service, s.environment from {schema}.stream as s where s.stream = \
         any($1) and (s.service, s.environment) is distinct from ($2, $3) and not {excused} order \
         by s.stream limit 1"
    )
}

/// For SQL: whether the table still has its witness (true, too, where the stream has none) and
/// whether the stream has one at all. `$1` is the stream.
pub(super) fn looking(schema: &str, table: &str) -> String {
    format!(
        "select s.witness_id is null or exists (select from {table} as t where t.id = \
         s.witness_id and coalesce(t._cluster_time, 0) >= s.witness_time), s.witness_id is not \
         null from {schema}.stream as s where s.stream = $1"
    )
}

/// The same, and makes the newest of the rows whose ids are `$2` the witness. A witness among the
/// ids in `$3` counts as there, because this very transaction has deleted it.
pub(super) fn moving(schema: &str, table: &str) -> String {
    format!(
        "update {schema}.stream as s set (witness_id, witness_time) = (select t.id, \
         coalesce(t._cluster_time, 0) from {table} as t where t.id = any(array_append($2::text[], \
         s.witness_id)) order by 2 desc limit 1) from {schema}.stream as b where s.stream = $1 and \
         b.stream = s.stream returning b.witness_id is null or b.witness_id = any($3) or exists \
         (select from {table} as t where t.id = b.witness_id and coalesce(t._cluster_time, 0) >= \
         b.witness_time) as stands, s.witness_id is not null as witnessed"
    )
}

/// For SQL: makes the row with the lowest id the witness, where none is known. `$1` is the stream.
pub(super) fn finding_witness(schema: &str, table: &str) -> String {
    format!(
        "update {schema}.stream set witness_id = t.id, witness_time = t.time from (select id, \
         coalesce(_cluster_time, 0) as time from {table} as l order by id limit 1) as t where \
         stream = $1"
    )
}
