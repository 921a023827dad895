//! The versions of a followed table's rows, kept beside it by the very statements that write the
//! rows: what they changed, and nothing else, has a version more. A replay changes nothing.
//!
//! A row that had none yet has that which is replaced written down with the one that replaces it:
//! rows of a bulk load, and of the time before versions were kept. The same goes for a row that is
//! newer than its last version, because they were not kept for a while.
//!
//! No two versions of a document are of one time, also where changes are read once more of a row
//! that has gone since, in other batches: what is known of a time is not overwritten by less.

use super::contents::Contents;
use crate::model::namespace::Table;
use crate::model::version_operation::VersionOperation;
use crate::settings::Keeping;

/// What is to be deleted: ids, the times that the rows may not be newer than, and the times at
/// which the documents were gone.
pub(super) const GONE: &str =
    "unnest($1::text[], $2::bigint[], $3::bigint[]) as d (id, cluster_time, gone)";

/// What marks a row as deleted.
pub(super) const MARK: &str =
    "_deleted_at = to_timestamp(d.gone >> 32), _cluster_time = d.gone, _applied_at = now()";

pub(super) const UNMARKED: &str = "t._deleted_at is null";

/// The answer of whatever deletes.
pub(super) const DELETED: &str =
    "select count(*), coalesce((array_agg(id))[1:5], '{}') from deleted";

/// Where versions are kept.
pub(super) struct History {
    /// For SQL.
    table: String,
    /// The followed table's rows of documents that there are, as something to select from.
    living: String,
}

impl History {
    pub fn new(table: &Table, living: &str) -> Self {
        Self { table: table.history().sql(), living: living.to_owned() }
    }

    /// An upsert that keeps what it writes, as expressions for a `with`. `fresh` is what its rows
    /// `t` tell besides.
    pub fn upsert(&self, contents: &Contents, upsert: &str, fresh: &str) -> String {
        let Self { table, living } = self;
        let (names, values) = (contents.list(""), contents.places("w."));
        let (after, before) = (contents.aliased("t."), contents.aliased("b."));
        let wrote = contents.kinds.len() + 4;
        let (insert, update) = (VersionOperation::Insert, VersionOperation::Update);
        let first = self.first(contents, "before");
        let known = self.known(contents);
        // The tables are seen as they were before the statement: `before` are the rows replaced.
        // `beside` is what stands around one that replaces no version of now: whether the version
        // before it lasts longer, and when the next one begins. Of most the last one tells both.
        format!(
            "written as ({upsert} returning t.id, {after}, t._cluster_time as time, {fresh} as \
             fresh), before as (select b.id, {before}, coalesce(b._cluster_time, 0) as time, \
             w.time as ended from written as w join {living} as b on b.id = w.id), closed as \
             (update {table} as h set _valid_to = greatest(h._valid_from, case when b.time > \
             h._valid_from then b.time else w.time end) from written as w left join before as b on \
             b.id = w.id where h.id = w.id and h._valid_to is null and h._valid_from <> w.time and \
             (h._valid_from < w.time or b.time > w.time) returning h.id), beside as (select w.id, \
             w.time, l._valid_from as began, case when l._valid_from < w.time then l._valid_to > \
             w.time when l._valid_from > w.time then (select h._valid_to > w.time from {table} as \
             h where h.id = w.id and h._valid_from < w.time order by h._valid_from desc limit 1) \
             end as is_over, case when l._valid_from > w.time then (select min(h._valid_from) from \
             {table} as h where h.id = w.id and h._valid_from > w.time) end as next from written \
             as w left join before as b on b.id = w.id join lateral (select h._valid_from, \
             h._valid_to from {table} as h where h.id = w.id order by h._valid_from desc limit 1) \
             as l on true where (b.time > w.time) is not true and not exists (select from closed \
             as c where c.id = w.id)), cut as (update {table} as h set _valid_to = s.time from \
             beside as s where h.id = s.id and h._valid_from = s.began and s.is_over and s.next is \
             null and not exists (select from before as b where b.id = s.id and b.time = \
             s.began)), kept as (insert into {table} as h (id, {names}, _valid_from, _valid_to, \
             _operation) select w.id, {values}, w.time, s.next, coalesce(${wrote}::text, case when \
             b.id is null then '{insert}' else '{update}' end) from written as w left join before \
             as b on b.id = w.id left join beside as s on s.id = w.id where (s.is_over and s.next \
             is not null) is not true union all {first} {known})"
        )
    }

    /// Deletes, or marks, and ends the versions, as expressions for a `with`: those of rows that
    /// go, and those that no row is left of, so that nobody's last content outlives its document.
    pub fn delete(&self, contents: &Contents, sql: &str, keeping: Keeping) -> String {
        let Self { table, living } = self;
        let names = contents.list("");
        let which = "t.id = d.id and (t._cluster_time <= d.cluster_time) is not false";
        let returning = format!("returning t.id, {}", contents.aliased("t."));
        let deleted = if keeping.marks_deletes() {
            format!(
                "update {sql} as t set {MARK} from (select d.*, b._cluster_time as began from \
                 {GONE} join {sql} as b on b.id = d.id) as d where {which} and {UNMARKED} \
                 {returning}, coalesce(d.began, 0) as time, d.gone as ended"
            )
        } else {
            format!(
                "delete from {sql} as t using {GONE} where {which} {returning}, \
                 coalesce(t._cluster_time, 0) as time, d.gone as ended"
            )
        };
        let first = self.first(contents, "deleted");
        let known = self.known(contents);
        format!(
            "deleted as ({deleted}), closed as (update {table} as h set _valid_to = \
             greatest(h._valid_from, case when e.time > h._valid_from then e.time else d.gone \
             end) from {GONE} left join deleted as e on e.id = d.id where h.id = d.id and \
             h._valid_to is null and (e.id is not null and h._valid_from <= d.gone or \
             h._valid_from <= d.cluster_time and not exists (select from {living} as b where b.id \
             = d.id))), kept as (insert into {table} as h (id, {names}, _valid_from, _valid_to, \
             _operation) {first} {known})"
        )
    }

    /// Ends those of the next `$2` versions of now, by id after `$1`, whose document has no row, at
    /// `$3`, or whose row is newer, when it became so. Answers how many, and the last id looked at.
    pub fn end_stale(&self) -> String {
        let Self { table, living } = self;
        format!(
            "with step as materialized (select h.id, h._valid_from as began from {table} as h \
             where h._valid_to is null and h.id > $1 order by h.id limit $2), stale as (select \
             h.id, h._valid_from, coalesce(b._cluster_time, $3) as ended from step as s join \
             {table} as h on h.id = s.id and h._valid_from = s.began left join {living} as b on \
             b.id = h.id where h._valid_to is null and (b.id is null or b._cluster_time > \
             h._valid_from) for update of h skip locked), closed as (update {table} as h set \
             _valid_to = greatest(h._valid_from, s.ended) from stale as s where h.id = s.id and \
             h._valid_from = s._valid_from returning 1) select (select count(*) from closed), \
             (select s.id from step as s order by s.id desc limit 1)"
        )
    }

    /// The documents among the ids in `$1` that have a version of now and no row, each with the
    /// time from which it is.
    pub fn rowless(&self) -> String {
        let Self { table, living } = self;
        format!(
            "select h.id, h._valid_from from {table} as h where h.id = any($1) and h._valid_to is \
             null and not exists (select from {living} as b where b.id = h.id)"
        )
    }

    /// Those of the rows ended that have no version of their own yet, nor are of the time of
    /// another.
    fn first(&self, contents: &Contents, ended: &str) -> String {
        let (table, values) = (&self.table, contents.places("e."));
        let operation = VersionOperation::Snapshot;
        format!(
            "select e.id, {values}, e.time, least(greatest(e.time, e.ended), (select \
             min(o._valid_from) from {table} as o where o.id = e.id and o._valid_from > e.time)), \
             '{operation}' from {ended} as e where e.time <> e.ended and not exists (select from \
             {table} as o where o.id = e.id and o._valid_to is null and o._valid_from >= e.time) \
             and (select o._valid_to > e.time from {table} as o where o.id = e.id and \
             o._valid_from < e.time order by o._valid_from desc limit 1) is not true"
        )
    }

    /// What becomes of a version that is there already: its end stays as early as it was, if it is
    /// not the document's last.
    fn known(&self, contents: &Contents) -> String {
        let (table, renewed) = (&self.table, contents.assignments());
        format!(
            "on conflict (id, _valid_from) do update set {renewed}_valid_to = case when exists \
             (select from {table} as n where n.id = h.id and n._valid_from > h._valid_from) then \
             least(h._valid_to, excluded._valid_to) else excluded._valid_to end"
        )
    }
}
