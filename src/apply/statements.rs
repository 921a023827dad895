//! Every SQL statement of one stream's data path, made from its configuration; `check` prepares
//! each of them.

use std::sync::Arc;

use super::contents::{Contents, Given};
use super::history::{DELETED, GONE, History, MARK, UNMARKED};
use crate::model::namespace::Table;
use crate::model::position::ClusterTime;
use crate::settings::{Column, Keeping};

/// The statements that touch a followed table.
#[derive(Debug, Clone)]
pub struct Statements {
    /// The table's name for SQL.
    pub table: Arc<str>,
    /// Its rows of documents that there are, as something to select from.
    pub living: Arc<str>,
    /// Where versions are kept, its last parameter is what wrote them, and it answers how many rows
    /// were written.
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
    /// Answers the rows with the ids given: each id, and the row's time.
    pub times: Arc<str>,
    /// Of the ids given, those whose row is older than a time.
    pub older: Arc<str>,
    pub copy: Arc<str>,
    /// Whether any row is there.
    pub any: Arc<str>,
    /// What they keep of documents.
    pub keeping: Keeping,
}

impl Statements {
    pub fn new(table: &Table, columns: &[Column], keeping: Keeping) -> Self {
        let sql = table.sql();
        let living = living(&sql, keeping);
        let contents = Contents::new(columns, keeping);
        let upsert = Upsert::new(&sql, &contents, keeping);
        let history = keeping.history.then(|| History::new(table, &living));
        // A stamp that is none, or of no time at all, would keep every later change out: a repair
        // mends it.
        let astray = format!(
            "t._cluster_time is null or t._cluster_time > excluded._cluster_time + {}",
            ClusterTime::default().ahead_max().to_sql()
        );
        // Beside id, contents, hash and time, and a version's operation.
        let last = contents.kinds.len() + 4 + usize::from(keeping.history);
        let renewed = format!("${last}::boolean and t._hash is distinct from");
        let differs = format!("({} or {renewed} excluded._hash)", upsert.differs);
        let repair = upsert.on(&format!("{NOT_NEWER} and {differs} or {astray}"));
        // A row of a partitioned table has no system columns to return (0A000, as of PostgreSQL
        // 18): that it was not there is looked up in the table as it was before the statement, at
        // the cost of a look into the index.
        let was_not_there = format!("(select true from {sql} as b where b.id = t.id) is null");
        let told_apart = |fresh: &str| {
            let answer = "select count(*) filter (where fresh), count(*) filter (where not fresh), \
                          coalesce((array_agg(id))[1:5], '{}') from written";
            if let Some(history) = &history {
                return history.upsert(&contents, &repair, fresh, answer);
            }
            format!("with written as ({repair} returning t.id, {fresh} as fresh) {answer}")
        };
        let plain = upsert.on(&format!("{NOT_NEWER} and {}", upsert.differs));
        let written = match &history {
            Some(history) => {
                history.upsert(&contents, &plain, "true", "select count(*) from written")
            }
            None => plain,
        };
        let delete = match &history {
            Some(history) => history.delete(&contents, &sql, keeping),
            None => delete(&sql, keeping),
        };
        Self {
            repair: told_apart("t.xmax = 0").into(),
            repair_partitioned: told_apart(&was_not_there).into(),
            upsert: written.into(),
            segment: segment(&living).into(),
            unknown_between: unknown_between(&living).into(),
            unknown: unknown(&living).into(),
            compare: compare(&living, &contents).into(),
            delete: delete.into(),
            times: format!(
                "select t.id, coalesce(t._cluster_time, 0) from {living} as t where t.id = any($1)"
            )
            .into(),
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
    fn new(sql: &str, contents: &Contents, keeping: Keeping) -> Self {
        let Given { from, values } = contents.given();
        let assignments = contents.assignments();
        let (names, before, after) =
            (contents.list(""), contents.list("t."), contents.list("excluded."));
        let differs = format!("({before}) is distinct from ({after})");
        // A document that is there again takes the mark off its row.
        let (unmarked, differs) = if keeping.marks_deletes() {
            (", _deleted_at = null", format!("({differs} or t._deleted_at is not null)"))
        } else {
            ("", differs)
        };
        let write = format!(
            "insert into {sql} as t (id, {names}, _hash, _cluster_time, _applied_at) select u.id, \
             {values}, u.hash, u.cluster_time, now() from {from} on conflict (id) do update set \
             {assignments}_hash = excluded._hash, _cluster_time = excluded._cluster_time, \
             _applied_at = excluded._applied_at{unmarked}"
        );
        Self { write, differs }
    }

    fn on(&self, condition: &str) -> String {
        format!("{} where {condition}", self.write)
    }
}

/// Takes ids, the times that their rows may not be newer than, and the times at which their
/// documents were gone.
fn delete(sql: &str, keeping: Keeping) -> String {
    let which = "t.id = d.id and (t._cluster_time <= d.cluster_time) is not false";
    let delete = if keeping.marks_deletes() {
        format!("update {sql} as t set {MARK} from {GONE} where {which} and {UNMARKED}")
    } else {
        format!("delete from {sql} as t using {GONE} where {which}")
    };
    format!("with deleted as ({delete} returning t.id) {DELETED}")
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

fn compare(living: &str, contents: &Contents) -> String {
    let Given { from, values } = contents.given();
    let before = contents.list("t.");
    format!(
        "select u.id, t.id is null from {from} left join {living} as t on t.id = u.id \
         where t.id is null or ({before}) is distinct from ({values})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::on_delete::OnDelete;
    use crate::model::value::ColumnType;

    #[test]
    fn a_stream_without_columns_and_a_hostile_column_name_make_whole_statements() {
        let table = Table { schema: "public".into(), name: "t".into() };
        let none = Statements::new(&table, &[], Keeping::default());
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
        let hostile = Statements::new(&table, &[column], Keeping::default());
        assert!(hostile.upsert.contains("u.c0::text[]"));
        assert!(hostile.upsert.contains("\"a\"\"b\" = excluded.\"a\"\"b\""));
    }

    #[test]
    fn where_rows_are_marked_no_statement_reads_one_that_is_but_the_upsert_takes_the_mark_off() {
        let table = Table { schema: "public".into(), name: "t".into() };
        let marking = Keeping { on_delete: OnDelete::Mark, ..Keeping::default() };
        let marking = Statements::new(&table, &[], marking);
        for (name, sql) in marking.preparable() {
            let reads_all = sql.contains("\"t\" as t") && !sql.contains("insert into");
            let may = matches!(name, "delete" | "exists");
            assert!(may || !reads_all, "{name} reads marked rows: {sql}");
        }
        assert!(marking.upsert.contains("_deleted_at = null"));
        assert!(!marking.delete.contains("delete from"));
        let deleting = Statements::new(&table, &[], Keeping::default());
        assert!(deleting.preparable().iter().all(|(_, sql)| !sql.contains("_deleted_at")));
    }

    #[test]
    fn versions_are_kept_by_the_statements_that_write_and_by_no_other() {
        let table = Table { schema: "public".into(), name: "t".into() };
        for on_delete in OnDelete::ALL {
            let keeping = Keeping { history: true, on_delete, ..Keeping::default() };
            for (name, sql) in Statements::new(&table, &[], keeping).preparable() {
                let writes =
                    matches!(name, "upsert" | "repair" | "repair of partitions" | "delete");
                assert_eq!(sql.contains("\"t_history\""), writes, "{name}: {sql}");
            }
        }
        let plain = Statements::new(&table, &[], Keeping::default());
        assert!(plain.preparable().iter().all(|(_, sql)| !sql.contains("history")));
    }
}
