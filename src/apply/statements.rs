//! Every SQL statement of one stream's data path, made from its configuration; `check` prepares
//! each of them.

use std::fmt::Write;
use std::sync::Arc;

use crate::model::namespace::{Table, quote};
use crate::model::position::ClusterTime;
use crate::model::value::ColumnType;
use crate::settings::Column;

/// The statements that touch a followed table.
#[derive(Debug, Clone)]
pub struct Statements {
    /// The table's name for SQL.
    pub table: Arc<str>,
    pub upsert: Arc<str>,
    /// The upsert of a resync: answers rows inserted, rows changed, and a few of their ids.
    pub repair: Arc<str>,
    /// The same for a partitioned table.
    pub repair_partitioned: Arc<str>,
    /// Answers of the rows after an id, up to a limit: the first id and the last, the number of
    /// rows, the exclusive or of their hashes.
    pub segment: Arc<str>,
    /// Answers the places (counted from one) of those of the ids and hashes given that no row has.
    /// Only rows between two ids are looked at, up to a limit.
    pub unknown_between: Arc<str>,
    /// Answers the same for any ids, by a look into the index for each.
    pub unknown: Arc<str>,
    /// Answers which of the rows given the table lacks (true) or has with other contents (false).
    pub compare: Arc<str>,
    /// Answers how many rows were deleted, and a few of their ids.
    pub delete: Arc<str>,
    /// Of the ids given, those whose row is older than a time.
    pub older: Arc<str>,
    pub copy: Arc<str>,
    /// Whether any row is there.
    pub any: Arc<str>,
}

impl Statements {
    pub fn new(table: &Table, columns: &[Column]) -> Self {
        let sql = table.sql();
        let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
        let upsert = Upsert::new(&sql, columns, &names);
        // A stamp that is none, or of no time at all, would keep every later change out: a repair
        // mends it.
        let astray = format!(
            "t._cluster_time is null or t._cluster_time > excluded._cluster_time + {}",
            ClusterTime::default().ahead_max().to_sql()
        );
        let repair = upsert.on(&format!("{NOT_NEWER} and {} or {astray}", upsert.differs));
        // A row of a partitioned table has no system columns to return (0A000, as of PostgreSQL
        // 18): that it was not there is looked up in the table as it was before the statement, at
        // the cost of a look into the index.
        let was_not_there = format!("(select true from {sql} as b where b.id = t.id) is null");
        let told_apart = |fresh: &str| {
            format!(
                "with written as ({repair} returning t.id, {fresh} as fresh) \
                 select count(*) filter (where fresh), count(*) filter (where not fresh), \
                 coalesce((array_agg(id))[1:5], '{{}}') from written"
            )
        };
        Self {
            repair: told_apart("t.xmax = 0").into(),
            repair_partitioned: told_apart(&was_not_there).into(),
            upsert: upsert.on(&format!("{NOT_NEWER} and {}", upsert.differs)).into(),
            segment: segment(&sql).into(),
            // The limit keeps the planner to the index, as that of `segment` does.
            unknown_between: format!(
                "select coalesce(array_agg(u.place), '{{}}') from unnest($1::text[], $2::bigint[]) \
                 with ordinality as u (id, hash, place) left join (select t.id, t._hash from {sql} \
                 as t where t.id between $3 and $4 order by t.id limit $5) as t on t.id = u.id \
                 where t._hash is distinct from u.hash"
            )
            .into(),
            unknown: format!(
                "select coalesce(array_agg(u.place), '{{}}') \
                 from unnest($1::text[], $2::bigint[]) with ordinality as u (id, hash, place) \
                 where u.hash is distinct from (select t._hash from {sql} as t where t.id = u.id)"
            )
            .into(),
            compare: compare(&sql, columns, &names).into(),
            delete: format!(
                "with deleted as (delete from {sql} as t using unnest($1::text[], $2::bigint[]) as \
                 d (id, cluster_time) where t.id = d.id and (t._cluster_time <= d.cluster_time) is \
                 not false returning t.id) select count(*), coalesce((array_agg(id))[1:5], '{{}}') \
                 from deleted"
            )
            .into(),
            older: format!(
                "select t.id from {sql} as t where t.id = any($1) and (t._cluster_time < $2) is \
                 not false"
            )
            .into(),
            copy: format!(
                "copy {sql} (id, {}doc, _hash, _cluster_time) from stdin (format \
                 binary)",
                list(&names, "")
            )
            .into(),
            any: format!("select exists (select from {sql})").into(),
            table: sql.into(),
        }
    }

    /// Those that can be prepared, with their names; COPY cannot.
    pub const fn preparable(&self) -> [(&'static str, &Arc<str>); 10] {
        [
            ("upsert", &self.upsert),
            ("repair", &self.repair),
            ("repair of partitions", &self.repair_partitioned),
            ("segment", &self.segment),
            ("unknown between", &self.unknown_between),
            ("unknown", &self.unknown),
            ("compare", &self.compare),
            ("delete", &self.delete),
            ("older", &self.older),
            ("exists", &self.any),
        ]
    }
}

/// `prefix` before and a comma after each.
fn list(names: &[String], prefix: &str) -> String {
    names.iter().fold(String::new(), |mut out, name| {
        let _ = write!(out, "{prefix}{name}, ");
        out
    })
}

/// The rows of the parameters as a table `u`, and its columns' values as they are compared and
/// stored.
struct Given {
    from: String,
    values: String,
}

fn given(columns: &[Column]) -> Given {
    let (mut arrays, mut aliases, mut values) = (String::new(), String::new(), String::new());
    for (index, column) in columns.iter().enumerate() {
        let is_array = column.kind == ColumnType::TextArray;
        let element = if is_array { "text" } else { column.kind.sql() };
        let _ = write!(arrays, "${}::{element}[], ", index + 2);
        let _ = write!(aliases, "c{index}, ");
        let cast = if is_array { "::text[]" } else { "" };
        let _ = write!(values, "u.c{index}{cast}, ");
    }
    let (doc, hash, time) = (columns.len() + 2, columns.len() + 3, columns.len() + 4);
    let from = format!(
        "unnest($1::text[], {arrays}${doc}::jsonb[], ${hash}::bigint[], ${time}::bigint[]) \
         as u (id, {aliases}doc, hash, cluster_time)"
    );
    Given { from, values }
}

/// The guard: nothing older replaces what is newer. A row that carries no time, of a table that was
/// adopted, is older than any.
const NOT_NEWER: &str = "(t._cluster_time <= excluded._cluster_time) is not false";

/// An upsert but for the condition under which a row that is there is written.
struct Upsert {
    write: String,
    /// The row would change.
    differs: String,
}

impl Upsert {
    fn new(sql: &str, columns: &[Column], names: &[String]) -> Self {
        let Given { from, values } = given(columns);
        let assignments = names.iter().fold(String::new(), |mut out, name| {
            let _ = write!(out, "{name} = excluded.{name}, ");
            out
        });
        let (columns, before, after) =
            (list(names, ""), list(names, "t."), list(names, "excluded."));
        let write = format!(
            "insert into {sql} as t (id, {columns}doc, _hash, _cluster_time, _applied_at) select \
             u.id, {values}u.doc, u.hash, u.cluster_time, now() from {from} on conflict (id) do \
             update set {assignments}doc = excluded.doc, _hash = excluded._hash, _cluster_time = \
             excluded._cluster_time, _applied_at = excluded._applied_at"
        );
        let differs = format!("({before}t.doc) is distinct from ({after}excluded.doc)");
        Self { write, differs }
    }

    fn on(&self, condition: &str) -> String {
        format!("{} where {condition}", self.write)
    }
}

/// The limit keeps the planner to the index, whatever it thinks of the table's size.
fn segment(sql: &str) -> String {
    format!(
        "select (array_agg(t.id))[1], (array_agg(t.id))[count(*)::int], count(*), \
         coalesce(bit_xor(t._hash), 0) from (select t.id, t._hash from {sql} as t where \
         t.id > $1 order by t.id limit $2) as t"
    )
}

fn compare(sql: &str, columns: &[Column], names: &[String]) -> String {
    let Given { from, values } = given(columns);
    let before = list(names, "t.");
    format!(
        "select u.id, t.id is null from {from} left join {sql} as t on t.id = u.id \
         where t.id is null or ({before}t.doc) is distinct from ({values}u.doc)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_columns_and_a_hostile_column_name_make_whole_statements() {
        let table = Table { schema: "public".into(), name: "t".into() };
        let none = Statements::new(&table, &[]);
        assert!(none.upsert.contains("(t.doc) is distinct from (excluded.doc)"));
        assert!(none.copy.contains("(id, doc, _hash, _cluster_time)"));
        let column = Column {
            name: "a\"b".into(),
            paths: vec![],
            kind: ColumnType::TextArray,
            required: false,
        };
        let hostile = Statements::new(&table, &[column]);
        assert!(hostile.upsert.contains("u.c0::text[]"));
        assert!(hostile.upsert.contains("\"a\"\"b\" = excluded.\"a\"\"b\""));
    }
}
