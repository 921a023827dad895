//! Every SQL statement of one stream's data path, made from its configuration; `check` prepares
//! each of them.

use std::sync::Arc;

use super::child_tables::ChildTables;
use super::contents::{Contents, Given};
use super::history::{DELETED, GONE, History, MARK, UNMARKED};
use super::upsert::Upsert;
use crate::model::namespace::Table;
use crate::model::position::ClusterTime;
use crate::settings::{Keeping, RowSpec};

/// The statements that touch a followed table.
#[derive(Debug, Clone)]
pub struct Statements {
    /// The table's name for SQL.
    pub table: Arc<str>,
    /// Its rows of documents that there are, as something to select from.
    pub living: Arc<str>,
    /// Where versions are kept, its last parameter is what wrote them.
    pub upsert: Arc<str>,
    /// The upsert of a resync: answers rows inserted, rows changed, and a few of their ids. The
    /// last parameter says whether rows are written of which the hash alone is another.
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
    /// Answers how many rows were deleted, or marked as deleted, and a few of their ids.
    pub delete: Arc<str>,
    /// Answers the rows with the ids given: each id, and the row's time; and of time zero those
    /// that only have elements in tables of arrays.
    pub times: Arc<str>,
    /// Of the ids given, those whose row is older than a time.
    pub older: Arc<str>,
    pub copy: Arc<str>,
    /// Selects the ids of elements in tables of arrays whose document has no row; empty if there
    /// are no such tables.
    pub orphans: Arc<str>,
    /// Ends versions of now that are no row's; empty if versions are not kept.
    pub stale_versions: Arc<str>,
    /// Answers which of some documents have a version of now and no row; nothing where no versions
    /// are kept.
    pub rowless_versions: Arc<str>,
    /// Whether any row is there.
    pub any: Arc<str>,
    /// What they keep of documents.
    pub keeping: Keeping,
    /// The upsert writes more than the table's rows: it answers how many of these were written. No
    /// COPY can take its place.
    pub writes_beside: bool,
}

impl Statements {
    pub fn new(table: &Table, rows: RowSpec<'_>) -> Self {
        let keeping = rows.keeping;
        let sql = table.sql();
        let living = living(&sql, keeping);
        let contents = Contents::new(rows);
        let children = ChildTables::new(table, rows, &contents);
        let history = keeping.history.then(|| History::new(table, &living));
        let upsert = Upsert::new(&sql, &contents, &children, history.as_ref(), keeping);
        // A stamp that is none, or of no time at all, would keep every later change out: a repair
        // mends it.
        let astray = format!(
            "t._cluster_time is null or t._cluster_time > excluded._cluster_time + {}",
            ClusterTime::default().ahead_max().to_sql()
        );
        // Beside id, contents, hash and time, and a version's operation.
        let last = contents.kinds.len() + 4 + usize::from(keeping.history);
        let renewed = format!("${last}::boolean and t._hash is distinct from excluded._hash");
        // A row of a partitioned table has no system columns to return (0A000, as of PostgreSQL
        // 18): that it was not there is looked up in the table as it was before the statement, at
        // the cost of a look into the index.
        let was_not_there = format!("(select true from {sql} as b where b.id = t.id) is null");
        let deleted = match &history {
            Some(history) => history.delete(&contents, &sql, keeping),
            None => delete(&sql, keeping),
        };
        let left = children.deleting(&sql, keeping);
        let orphans = children.orphans(&sql);
        Self {
            repair: upsert.repair("t.xmax = 0", &renewed, &astray).into(),
            repair_partitioned: upsert.repair(&was_not_there, &renewed, &astray).into(),
            writes_beside: upsert.writes_beside(),
            upsert: upsert.plain().into(),
            segment: segment(&living).into(),
            unknown_between: unknown_between(&living).into(),
            unknown: unknown(&living).into(),
            compare: compare(&living, &contents, &children).into(),
            delete: format!("with {deleted}{left} {DELETED}").into(),
            times: times(&living, &orphans).into(),
            older: format!(
                "select t.id from {living} as t where t.id = any($1) and (t._cluster_time < $2) \
                 is not false"
            )
            .into(),
            copy: format!(
                "copy {sql} (id, {}, _hash, _cluster_time) from stdin (format binary)",
                contents.list("")
            )
            .into(),
            orphans: orphans.into(),
            rowless_versions: history.as_ref().map(History::rowless).unwrap_or_default().into(),
            stale_versions: history.as_ref().map(History::end_stale).unwrap_or_default().into(),
            any: format!("select exists (select from {sql})").into(),
            table: sql.into(),
            living: living.into(),
            keeping,
        }
    }

    /// Those that can be prepared, with their names; COPY cannot.
    pub const fn preparable(&self) -> [(&'static str, &Arc<str>); 11] {
        [
            ("upsert", &self.upsert),
            ("repair", &self.repair),
            ("repair of partitions", &self.repair_partitioned),
            ("segment", &self.segment),
            ("unknown between", &self.unknown_between),
            ("unknown", &self.unknown),
            ("compare", &self.compare),
            ("delete", &self.delete),
            ("times", &self.times),
            ("older", &self.older),
            ("exists", &self.any),
        ]
    }
}

/// Where rows are marked as deleted, whoever looks for documents must not see them.
pub fn living(sql: &str, keeping: Keeping) -> String {
    if keeping.marks_deletes() {
        format!("(select * from {sql} where _deleted_at is null)")
    } else {
        sql.to_owned()
    }
}

/// What deletes, or marks, as an expression for a `with`. Takes ids, the times that their rows may
/// not be newer than, and the times at which their documents were gone.
fn delete(sql: &str, keeping: Keeping) -> String {
    let which = "t.id = d.id and (t._cluster_time <= d.cluster_time) is not false";
    let delete = if keeping.marks_deletes() {
        format!("update {sql} as t set {MARK} from {GONE} where {which} and {UNMARKED}")
    } else {
        format!("delete from {sql} as t using {GONE} where {which}")
    };
    format!("deleted as ({delete} returning t.id)")
}

fn times(living: &str, orphans: &str) -> String {
    let rows = format!(
        "select t.id, coalesce(t._cluster_time, 0) from {living} as t where t.id = any($1)"
    );
    if orphans.is_empty() {
        return rows;
    }
    format!("{rows} union all select o.id, 0 from ({orphans}) as o where o.id = any($1)")
}

/// The limit keeps the planner to the index, whatever it thinks of the table's size.
fn segment(living: &str) -> String {
    format!(
        "select (array_agg(t.id))[1], (array_agg(t.id))[count(*)::int], count(*), \
         coalesce(bit_xor(t._hash), 0) from (select t.id, t._hash from {living} as t where \
         t.id > $1 order by t.id limit $2) as t"
    )
}

fn unknown(living: &str) -> String {
    format!(
        "select coalesce(array_agg(u.place), '{{}}') from unnest($1::text[], $2::bigint[]) with \
         ordinality as u (id, hash, place) where u.hash is distinct from (select t._hash from \
         {living} as t where t.id = u.id)"
    )
}

/// The limit keeps the planner to the index, as that of `segment` does.
fn unknown_between(living: &str) -> String {
    format!(
        "select coalesce(array_agg(u.place), '{{}}') from unnest($1::text[], $2::bigint[]) with \
         ordinality as u (id, hash, place) left join (select t.id, t._hash from {living} as t \
         where t.id between $3 and $4 order by t.id limit $5) as t on t.id = u.id where t._hash \
         is distinct from u.hash"
    )
}

fn compare(living: &str, contents: &Contents, children: &ChildTables) -> String {
    let Given { from, values } = contents.given();
    let before = contents.list("t.");
    let or = if children.is_none() { String::new() } else { format!(" or {}", children.differ()) };
    format!(
        "select u.id, t.id is null from {from} left join {living} as t on t.id = u.id \
         where t.id is null or ({before}) is distinct from ({values}){or}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::on_delete::OnDelete;
    use crate::model::value::ColumnType;
    use crate::settings::{Child, Column};

    #[test]
    fn a_stream_without_columns_and_a_hostile_column_name_make_whole_statements() {
        let table = Table { schema: "public".into(), name: "t".into() };
        let none = Statements::new(&table, RowSpec::of(&[], Keeping::default()));
        assert!(none.upsert.contains("(t.doc) is distinct from (excluded.doc)"));
        assert!(none.copy.contains("(id, doc, _hash, _cluster_time)"));
        let column = Column {
            name: "a\"b".into(),
            paths: vec![],
            kind: ColumnType::TextArray,
            required: false,
            mask: None,
            zone: None,
        };
        let hostile = Statements::new(&table, RowSpec::of(&[column], Keeping::default()));
        assert!(hostile.upsert.contains("u.c0::text[]"));
        assert!(hostile.upsert.contains("\"a\"\"b\" = excluded.\"a\"\"b\""));
    }

    #[test]
    fn where_rows_are_marked_no_statement_reads_one_that_is_but_the_upsert_takes_the_mark_off() {
        let table = Table { schema: "public".into(), name: "t".into() };
        let marking = Keeping { on_delete: OnDelete::Mark, ..Keeping::default() };
        let marking = Statements::new(&table, RowSpec::of(&[], marking));
        for (name, sql) in marking.preparable() {
            let reads_all = sql.contains("\"t\" as t") && !sql.contains("insert into");
            let may = matches!(name, "delete" | "exists");
            assert!(may || !reads_all, "{name} reads marked rows: {sql}");
        }
        assert!(marking.upsert.contains("_deleted_at = null"));
        assert!(!marking.delete.contains("delete from"));
        let deleting = Statements::new(&table, RowSpec::of(&[], Keeping::default()));
        assert!(deleting.preparable().iter().all(|(_, sql)| !sql.contains("_deleted_at")));
    }

    #[test]
    fn versions_are_kept_by_the_statements_that_write_and_by_no_other() {
        let table = Table { schema: "public".into(), name: "t".into() };
        for on_delete in OnDelete::ALL {
            let keeping = Keeping { history: true, on_delete, ..Keeping::default() };
            for (name, sql) in Statements::new(&table, RowSpec::of(&[], keeping)).preparable() {
                let writes =
                    matches!(name, "upsert" | "repair" | "repair of partitions" | "delete");
                assert_eq!(sql.contains("\"t_history\""), writes, "{name}: {sql}");
            }
        }
        let plain = Statements::new(&table, RowSpec::of(&[], Keeping::default()));
        assert!(plain.preparable().iter().all(|(_, sql)| !sql.contains("history")));
    }

    #[test]
    fn what_writes_a_row_writes_its_elements_and_what_compares_it_compares_them() {
        let table = Table { schema: "public".into(), name: "t".into() };
        let column = Column {
            name: "a".into(),
            paths: vec![],
            kind: ColumnType::TextArray,
            required: false,
            mask: None,
            zone: None,
        };
        let children =
            [Child { table: "k\"t".into(), path: vec!["k".into()], columns: vec![column] }];
        for on_delete in OnDelete::ALL {
            for history in [false, true] {
                let keeping = Keeping { history, on_delete, doc: true };
                let rows = RowSpec { children: &children, ..RowSpec::of(&[], keeping) };
                let made = Statements::new(&table, rows);
                assert!(made.writes_beside);
                let named = made.preparable().into_iter();
                let named = named.filter(|(_, sql)| sql.contains("\"k\"\"t\""));
                let named: Vec<&str> = named.map(|(name, _)| name).collect();
                let should_be =
                    ["upsert", "repair", "repair of partitions", "compare", "delete", "times"];
                assert_eq!(named, should_be);
                for sql in [&made.upsert, &made.repair, &made.repair_partitioned] {
                    assert!(sql.contains("t.id in (select a.id from altered as a)"), "{sql}");
                    assert!(sql.contains("(e.cells ->> 0)::text[]"), "{sql}");
                }
            }
        }
    }
}
