//! The table `stream`: in which group a stream is, what its rows are of, and whose it is. A
//! position is only a time, and a time fits any cluster, any collection of that name, any table.
//!
//! Of the table it remembers a *witness* (`witness`): the newest row tidemark wrote, as far as it
//! knows. A table without it is not the one the position speaks for: it was emptied, replaced, or
//! restored from an older backup.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;
use sqlx::types::Json;

use super::stream_row::COLUMNS;
use super::{BoundTo, StateTables, StreamRow, checkpoint, stream_row};
use crate::error::{Class, Code, Fault};
use crate::model::namespace::Table;
use crate::model::owner::Owner;
use crate::model::phase::Phase;
use crate::model::position::ClusterTime;
use crate::postgres::with_deadline;

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

    /// Binds a stream, in the caller's fenced transaction.
    pub(super) async fn bind_in(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        bound: &BoundTo<'_>,
    ) -> Result<(), Fault> {
        let (schema, table, living) = (&self.schema, bound.table.sql(), bound.living);
        // The one that it has had, as far as that is there: the row with the lowest id may be old,
        // and in a backup of the table that is older than what was written last.
        let witness = format!(
            "(select t.id, b.witness_time as time from {schema}.stream as b join {living} as t on \
             t.id = b.witness_id and coalesce(t._cluster_time, 0) >= b.witness_time where b.stream \
             = $1) union all (select t.id, coalesce(t._cluster_time, 0) from {living} as t order \
             by t.id limit 1) order by time desc limit 1"
        );
        let sql = AssertSqlSafe(format!(
            "insert into {schema}.stream as s (stream, service, environment, cluster, \
             collection_uuid, table_schema, table_name, table_oid, witness_id, witness_time, \
             mapping, collection) select $1, $2, $3, $4, $5, $6, $7, $8::regclass::oid::bigint, \
             w.id, w.time, $9, $10 from (select 1) as one left join ({witness}) as w on true on \
             conflict (stream) do update set service = excluded.service, environment = \
             excluded.environment, cluster = excluded.cluster, collection_uuid = \
             excluded.collection_uuid, table_schema = excluded.table_schema, table_name = \
             excluded.table_name, table_oid = excluded.table_oid, witness_id = \
             excluded.witness_id, witness_time = excluded.witness_time, mapping = \
             excluded.mapping, collection = excluded.collection, left_at = null, blind_from = \
             case when s.left_at is null then s.blind_from end"
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
            .bind(Json(bound.mapping))
            .bind(bound.collection);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Binds a stream to another source alone: its table, and what made its rows, stay what they
    /// were. Times of the source before mean nothing here, the witness's neither. In the caller's
    /// fenced transaction.
    pub(super) async fn bind_source(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        bound: &BoundTo<'_>,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "{} set cluster = $2, collection_uuid = $3, witness_time = case when witness_id is not \
             null then 0 end where stream = $1",
            changing(&self.schema)
        ));
        let query = sqlx::query(sql).bind(stream).bind(bound.cluster).bind(bound.collection_uuid);
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

/// For SQL: up to which time the rows of the stream in `$1` may be; null while a walk keeps that.
pub(super) fn ahead(schema: &str) -> String {
    let walking = ClusterTime::END.to_sql();
    format!(
        "(select nullif(s.ahead_until, {walking}) from {schema}.stream as s where s.stream = $1)"
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

/// Streams of the owner in `$2` and `$3` that are configured no more, by the names in `$5`, though
/// those in `$6`, of the collections in `$7`, are to be written into their tables in `$8` and `$9`:
/// each with that one, and whether it is the same stream under another name. It is if it is of the
/// same collection of the database in `$4`, and nothing was followed under the other name yet. Of
/// the group in `$1` those that are the same, of other groups those for which `and` holds.
pub(super) fn followed_on(schema: &str, and: &str) -> String {
    let same = format!(
        "((s.database, s.collection) = ($4, m.collection) and not exists (select from \
         {schema}.stream as t where t.stream = m.stream and t.table_oid is not null))"
    );
    format!(
        "select s.stream, m.stream, coalesce({same}, false) from {schema}.stream as s join \
         unnest($6::text[], $7::text[], $8::text[], $9::text[]) as m (stream, collection, \
         table_schema, table_name) on (m.table_schema, m.table_name) = (s.table_schema, \
         s.table_name) where (s.service, s.environment) = ($2, $3) and s.stream <> all($5) and \
         case when s.\"group\" = $1 then {same} else s.\"group\" is not null and {and} end order \
         by s.left_at nulls first, s.stream"
    )
}

/// Whether the rows of the stream `s` are in one of these tables, as far as is remembered: quoted
/// they are the parameter `first`, their schemas and names are the next two.
fn is_in_tables(first: usize) -> String {
    let (schemas, names) = (first + 1, first + 2);
    format!(
        "(s.table_oid in (select to_regclass(t)::oid::bigint from unnest(${first}::text[]) as t) \
         or (s.table_schema, s.table_name) in (select * from unnest(${schemas}::text[], \
         ${names}::text[])) or s.table_schema = any(${schemas}) and s.mapping -> 'children' ?| \
         ${names})"
    )
}

/// Another stream than that in `$1`, of the owner in `$2` and `$3`, that a table is written for, by
/// another group than that in `$4`, which is `led`; and that group. The tables are three parameters
/// more. One that its group goes on without writes nothing, and has to ask for its table before it
/// does again.
pub(super) fn holding(schema: &str, led: &str) -> String {
    format!(
        "select s.stream, s.\"group\" from {schema}.stream as s where s.stream <> $1 and \
         (s.service, s.environment) = ($2, $3) and s.\"group\" <> $4 and s.parked_code is null and \
         {} and {led} order by s.stream limit 1",
        is_in_tables(5)
    )
}

/// The other streams than those in `$1`, of the owner in `$2` and `$3`, whose rows are in these
/// tables, the next three parameters.
pub(super) fn of_tables(schema: &str) -> String {
    format!(
        "select s.stream from {schema}.stream as s where s.stream <> all($1) and (s.service, \
         s.environment) = ($2, $3) and {}",
        is_in_tables(4)
    )
}

/// Locks the rows of the streams in `$1` and `$2`, always in the same order, and answers for each
/// whether it is one of `$2` and is written by another group than that in `$3`, which is `led`.
pub(super) fn locking_held(schema: &str, led: &str) -> String {
    format!(
        "select s.stream, coalesce(s.\"group\", ''), coalesce(s.stream = any($2) and \
         s.\"group\" <> $3 and s.parked_code is null and {led}, false) from {schema}.stream as s \
         where s.stream = any($1) or s.stream = any($2) order by s.stream for no key update of s"
    )
}

/// Takes away the row of a stream in `$1` that was not followed yet.
pub(super) fn unmaking(schema: &str) -> String {
    format!("delete from {schema}.stream where stream = $1 and table_oid is null")
}

/// Calls the stream in `$1` by the name in `$2`.
pub(super) fn renaming(schema: &str) -> String {
    format!("update {schema}.stream set stream = $2, report = null where stream = $1")
}

/// Lets the streams in `$1` go: they are not followed any more, and their tables stay. One that was
/// left out is still what it was.
pub(super) fn letting_go(schema: &str) -> String {
    let since = stream_row::missed_since(&checkpoint::time_of(schema, "s"));
    format!(
        "update {schema}.stream as s set left_at = now(), blind_from = {since}, \"group\" = null, \
         report = null, phase = case when s.parked_code is null then '{standby}' else s.phase \
         end, phase_since = case when s.parked_code is null then now() else s.phase_since end \
         where stream = any($1)",
        standby = Phase::Standby
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
    let since = stream_row::missed_since(&checkpoint::time_of(schema, "s"));
    let moves = "(s.service, s.environment, s.\"group\") <> (excluded.service, \
                 excluded.environment, excluded.\"group\")";
    format!(
        "insert into {schema}.stream as s (stream, service, environment, \"group\", database, \
         collection) select m.stream, $1, $2, $3, $4, m.collection from unnest($5::text[], \
         $6::text[]) as m (stream, collection) on conflict (stream) do update set service = \
         excluded.service, environment = excluded.environment, \"group\" = \
         excluded.\"group\", database = excluded.database, collection = case when s.table_oid is \
         null then excluded.collection else coalesce(s.collection, excluded.collection) end, \
         left_at = case when {moves} then coalesce(s.left_at, now()) else s.left_at end, \
         blind_from = case when {moves} then {since} else s.blind_from end where (s.service, \
         s.environment, s.\"group\", s.database, s.collection) is distinct from \
         (excluded.service, excluded.environment, excluded.\"group\", excluded.database, \
         excluded.collection) and (s.\"group\" is \
         null or (s.service, s.environment, s.\"group\") = (excluded.service, \
         excluded.environment, excluded.\"group\") or not {led})"
    )
}

/// Of the rows `of` of another table: those of groups that streams are in, which are the parameter
/// of this number, and called `s` in what else must hold of them.
pub(super) fn are_in(schema: &str, of: &str, streams: usize, and: &str) -> String {
    format!(
        "exists (select from {schema}.stream as s where s.stream = any(${streams}) and \
         (s.\"group\", s.service, s.environment) = ({of}.\"group\", {of}.service, \
         {of}.environment) and {and})"
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

/// For SQL: whether the table still has its witness (true, too, where the stream has none), and its
/// id. `$1` is the stream. A row lock, where one is asked for, keeps it there until the transaction
/// has ended.
pub(super) fn looking(schema: &str, table: &str, lock: &str) -> String {
    format!(
        "select s.witness_id is null or exists (select from {table} as t where t.id = \
         s.witness_id and coalesce(t._cluster_time, 0) >= s.witness_time {lock}), s.witness_id \
         from {schema}.stream as s where s.stream = $1"
    )
}

/// The same, and makes the newest of the rows whose ids are `$2` the witness. Where `$3` holds it
/// was there before this very transaction wrote or deleted it.
pub(super) fn moving(schema: &str, table: &str) -> String {
    format!(
        "update {schema}.stream as s set (witness_id, witness_time) = (select t.id, \
         coalesce(t._cluster_time, 0) from {table} as t where t.id = any(array_append($2::text[], \
         s.witness_id)) order by 2 desc limit 1) from {schema}.stream as b where s.stream = $1 and \
         b.stream = s.stream returning $3::boolean or b.witness_id is null or exists (select from \
         {table} as t where t.id = b.witness_id and coalesce(t._cluster_time, 0) >= \
         b.witness_time) as stands, s.witness_id"
    )
}

/// For SQL: makes the row with the lowest id the witness, where none is known. `$1` is the stream.
pub(super) fn finding_witness(schema: &str, table: &str) -> String {
    format!(
        "update {schema}.stream set witness_id = t.id, witness_time = t.time from (select id, \
         coalesce(_cluster_time, 0) as time from {table} as l order by id limit 1) as t where \
         stream = $1 returning witness_id"
    )
}
