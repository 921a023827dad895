//! The table `stream`: what a stream's position speaks for, and whose the stream is. A position is
//! only a time, and a time fits any cluster, any collection of that name, any table.
//!
//! Written in the transactions that write the position. Of the table it remembers a *witness*: the
//! newest row tidemark wrote, as far as it knows. A table without it is not the one the position
//! speaks for: it was emptied, replaced, or restored from an older backup.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::StateTables;
use crate::error::{Class, Code, Fault};
use crate::model::namespace::Table;
use crate::model::owner::Owner;
use crate::model::position::Position;
use crate::postgres::with_deadline;

/// The row of a stream.
#[derive(Debug, Clone, FromRow, PartialEq, Eq)]
pub struct Binding {
    pub service: String,
    pub environment: String,
    /// The replica set's id; `None` where the source did not tell it.
    pub cluster: Option<String>,
    /// `None` if there was no collection, or the source did not tell it.
    pub collection_uuid: Option<Uuid>,
    /// The cluster time of the position the stream began at, or was moved back to: it need be no
    /// entry of the oplog.
    pub begun_time: Option<i64>,
    pub table_schema: String,
    pub table_name: String,
    pub table_oid: i64,
    pub witness_id: Option<String>,
    pub witness_time: Option<i64>,
}

/// What a position is bound to.
#[derive(Debug, Clone, Copy)]
pub struct BoundTo<'a> {
    pub cluster: Option<&'a str>,
    pub collection_uuid: Option<Uuid>,
    pub table: &'a Table,
}

/// The followed table as it is.
#[derive(Debug, Clone, Copy, FromRow, PartialEq, Eq)]
pub struct TableNow {
    pub oid: i64,
    /// The `_cluster_time` of the witness; `None` if it is not there.
    pub witness_time: Option<i64>,
    pub holds_rows: bool,
}

/// The rows that a transaction wrote and deleted, among which it keeps or finds the table's
/// witness.
#[derive(Debug, Default)]
pub struct Touched<'a> {
    /// The table's name for SQL.
    pub table: &'a str,
    /// The ids of a few of the rows written last, of which the newest becomes the witness; empty
    /// leaves the witness as it is.
    pub written: Vec<&'a str>,
    pub deleted: &'a [String],
}

impl StateTables {
    /// What a stream is bound to; `None` if it never was, as under the first release.
    pub async fn binding(&self, stream: &str) -> Result<Option<Binding>, Fault> {
        let sql = AssertSqlSafe(format!("select * from {}.stream where stream = $1", self.schema));
        with_deadline(self.deadline, sqlx::query_as(sql).bind(stream).fetch_optional(&self.pool))
            .await
    }

    /// The followed table as it is now.
    ///
    /// # Errors
    /// There is none; or whatever Postgres answers.
    pub async fn table_now(&self, table: &Table, witness: Option<&str>) -> Result<TableNow, Fault> {
        let name = table.sql();
        let sql = AssertSqlSafe(format!(
            "select $1::regclass::oid::bigint as oid, (select coalesce(t._cluster_time, 0) from \
             {name} as t where t.id = $2) as witness_time, exists (select from {name}) as \
             holds_rows"
        ));
        let query = sqlx::query_as(sql).bind(&name).bind(witness);
        with_deadline(self.deadline, query.fetch_one(&self.pool)).await
    }

    /// Binds a stream, in the caller's transaction; its position begins at `begun`, if it begins
    /// anew.
    pub(super) async fn bind_in(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        bound: &BoundTo<'_>,
        begun: Option<&Position>,
    ) -> Result<(), Fault> {
        let (schema, table) = (&self.schema, bound.table.sql());
        let sql = AssertSqlSafe(format!(
            "insert into {schema}.stream as s (stream, service, environment, cluster, \
             collection_uuid, begun_time, table_schema, table_name, table_oid, witness_id, \
             witness_time) select $1, $2, $3, $4, $5, $6, $7, $8, $9::regclass::oid::bigint, w.id, \
             w.time from (select 1) as one left join (select t.id, coalesce(t._cluster_time, 0) as \
             time from {table} as t order by t.id limit 1) as w on true on conflict (stream) do \
             update set service = excluded.service, environment = excluded.environment, cluster = \
             excluded.cluster, collection_uuid = excluded.collection_uuid, begun_time = \
             coalesce(excluded.begun_time, s.begun_time), table_schema = excluded.table_schema, \
             table_name = excluded.table_name, table_oid = excluded.table_oid, witness_id = \
             excluded.witness_id, witness_time = excluded.witness_time"
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql)
            .bind(stream)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(bound.cluster)
            .bind(bound.collection_uuid)
            .bind(begun.map(|position| position.cluster_time.to_sql()))
            .bind(&bound.table.schema)
            .bind(&bound.table.name)
            .bind(&table);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Notes that the position was moved to `position`, whose time need be no entry of the oplog,
    /// so that it is not taken for a sign of another source.
    pub(super) async fn begin_at(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        position: &Position,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.stream set begun_time = $2 where stream = $1",
            self.schema
        ));
        let query = sqlx::query(sql).bind(stream).bind(position.cluster_time.to_sql());
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
            "select s.stream, s.service, s.environment from {}.stream as s where s.table_oid = \
             to_regclass($1)::oid::bigint and (s.service, s.environment) is distinct from ($2, $3) \
             order by s.stream limit 1",
            self.schema
        ));
        let query = sqlx::query_as::<_, (String, String, String)>(sql)
            .bind(table.sql())
            .bind(&owner.service)
            .bind(&owner.environment);
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

/// The table's name, as `to_regclass` takes it.
pub(super) fn name(schema: &str) -> String {
    format!("{schema}.stream")
}

/// What streams are known by, as something to select from.
pub(super) fn identities(schema: &str) -> String {
    format!("(select stream, cluster, collection_uuid from {schema}.stream)")
}

/// For SQL: whether the stream has a row here, which says whose it is.
pub(super) fn is_bound(schema: &str, stream: &str) -> String {
    format!("exists (select from {schema}.stream as s where s.stream = {stream})")
}

/// Whether a stream is the owner's. Takes the owner as two parameters from the `first` on.
pub(super) fn is_ours(schema: &str, stream: &str, first: usize) -> String {
    format!(
        "exists (select from {schema}.stream as s where s.stream = {stream} and s.service = \
         ${first} and s.environment = ${})",
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

/// For SQL: advances the position, and answers whether the table still has its witness (true, too,
/// where the stream has none) and whether the stream has one at all. `$1` is the stream.
pub(super) fn advancing_and_looking(schema: &str, table: &str, advancing: &str) -> String {
    format!(
        "with moved as ({advancing} returning 1) select s.witness_id is null or exists \
         (select from {table} as t where t.id = s.witness_id \
         and coalesce(t._cluster_time, 0) >= s.witness_time), \
         s.witness_id is not null from moved left join {schema}.stream as s on s.stream = $1"
    )
}

/// The same, and makes the newest of the rows whose ids are `$7` the witness. A witness among the
/// ids in `$8` counts as there, because this very transaction has deleted it.
pub(super) fn advancing_and_moving(schema: &str, table: &str, advancing: &str) -> String {
    format!(
        "with moved as ({advancing} returning 1), noted as (update {schema}.stream as s set \
         (witness_id, witness_time) = (select t.id, coalesce(t._cluster_time, 0) from {table} \
         as t where t.id = any(array_append($7::text[], s.witness_id)) order by 2 desc limit \
         1) from {schema}.stream as b where s.stream = $1 and b.stream = s.stream returning \
         b.witness_id is null or b.witness_id = any($8) or exists (select from {table} as t \
         where t.id = b.witness_id and coalesce(t._cluster_time, 0) >= b.witness_time) as \
         stands, s.witness_id is not null as witnessed) select coalesce(noted.stands, true), \
         coalesce(noted.witnessed, false) from moved left join noted on true"
    )
}

/// For SQL: makes the row with the lowest id the witness, where none is known. `$1` is the stream.
pub(super) fn finding_witness(schema: &str, table: &str) -> String {
    format!(
        "update {schema}.stream set witness_id = t.id, witness_time = t.time from (select id, \
         coalesce(_cluster_time, 0) as time from {table} order by id limit 1) as t where stream = \
         $1"
    )
}
