//! Tables of documents' arrays, in SQL: every element is a row by its document's id and its place
//! in the array. They are written by the very statement that writes the row of the document, from
//! one parameter more, an array of the elements' cells as `jsonb`: whatever refuses, halves,
//! repeats or compares a row does so with its elements.

use super::contents::Contents;
use super::history::GONE;
use crate::model::namespace::{Table, quote};
use crate::model::value::ColumnType;
use crate::settings::{Child, Keeping, RowSpec};

/// The tables of one stream's arrays.
pub(super) struct ChildTables(Vec<ChildTable>);

struct ChildTable {
    /// For SQL.
    table: String,
    /// Where among the contents its parameter is.
    place: usize,
    /// For SQL, with their types.
    columns: Vec<(String, ColumnType)>,
}

impl ChildTables {
    /// Of a followed table. `contents` are those of its rows.
    pub fn new(table: &Table, rows: RowSpec<'_>, contents: &Contents) -> Self {
        let of = |(index, child): (usize, &Child)| ChildTable {
            table: table.beside(&child.table).sql(),
            place: contents.names.len() + index,
            columns: child
                .columns
                .iter()
                .map(|column| (quote(&column.name), column.kind))
                .collect(),
        };
        Self(rows.children.iter().enumerate().map(of).collect())
    }

    pub const fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The row `u` of the parameters has other elements than the tables: a condition.
    pub fn differ(&self) -> String {
        self.0.iter().map(ChildTable::differs).collect::<Vec<_>>().join(" or ")
    }

    /// Of each table, how many rows the document of row `u` has there, how many it is to have, and
    /// whether they are the same: lists of expressions.
    pub fn beside(&self) -> [String; 3] {
        let of =
            |say: fn(&ChildTable) -> String| self.0.iter().map(say).collect::<Vec<_>>().join(", ");
        [
            of(|child| {
                let table = &child.table;
                format!("(select count(*) from {table} as k where k.parent_id = u.id)")
            }),
            of(|child| format!("jsonb_array_length(u.c{})::bigint", child.place)),
            of(|child| format!("not {}", child.differs())),
        ]
    }

    /// Makes the tables' rows those of the documents `written`, of the rows `given`: expressions
    /// for a `with`.
    pub fn replacing(&self) -> String {
        self.0.iter().enumerate().map(|(number, table)| table.replacing(number)).collect()
    }

    /// Deletes the rows of documents that are to be deleted, as far as these have no row any more
    /// in the followed table: expressions for a `with`. Where deleted rows stay, marked, so do
    /// those of their elements.
    pub fn deleting(&self, followed: &str, keeping: Keeping) -> String {
        let orphan = format!("not exists (select from {followed} as b where b.id = d.id)");
        let is_gone = if keeping.marks_deletes() {
            orphan
        } else {
            format!("(d.id in (select x.id from deleted as x) or {orphan})")
        };
        let delete = |(number, child): (usize, &ChildTable)| {
            format!(
                ", left{number} as (delete from {} as k using {GONE} where k.parent_id = d.id and \
                 {is_gone})",
                child.table
            )
        };
        self.0.iter().enumerate().map(delete).collect()
    }

    /// Selects the ids of elements whose document has no row in the followed table; nothing, where
    /// there are no such tables.
    pub fn orphans(&self, followed: &str) -> String {
        let of = |child: &ChildTable| {
            format!(
                "select k.parent_id as id from {} as k where not exists (select from {followed} as \
                 b where b.id = k.parent_id)",
                child.table
            )
        };
        self.0.iter().map(of).collect::<Vec<_>>().join(" union ")
    }
}

impl ChildTable {
    /// The elements of the row `u`, as something to select from.
    fn elements(&self) -> String {
        let cells = self.columns.iter().enumerate().map(|(index, (_, kind))| {
            let cell = if *kind == ColumnType::Jsonb {
                format!("nullif(e.cells -> {index}, 'null'::jsonb)")
            } else {
                format!("(e.cells ->> {index})::{}", kind.sql())
            };
            format!(", {cell} as v{index}")
        });
        format!(
            "(select (e.place - 1)::integer as position{} from jsonb_array_elements(u.c{}) with \
             ordinality as e (cells, place))",
            cells.collect::<String>(),
            self.place
        )
    }

    /// The columns with `prefix` before each, after a comma.
    fn names(&self, prefix: &str) -> String {
        self.columns.iter().fold(String::new(), |list, (name, _)| list + ", " + prefix + name)
    }

    fn values(&self) -> String {
        let places = 0..self.columns.len();
        places.fold(String::new(), |list, place| list + ", g.v" + &place.to_string())
    }

    fn differs(&self) -> String {
        let Self { table, .. } = self;
        format!(
            "exists (select from (select k.position{} from {table} as k where k.parent_id = u.id) \
             as k full join {} as g on g.position = k.position where (k.position{}) is distinct \
             from (g.position{}))",
            self.names("k."),
            self.elements(),
            self.names("k."),
            self.values()
        )
    }

    /// What is there stays as it is where it is the same; what is deleted and what is written are
    /// rows of different places, since all of one statement see the tables as they were before it.
    fn replacing(&self, number: usize) -> String {
        let Self { table, place, columns } = self;
        let assignments: Vec<String> =
            columns.iter().map(|(name, _)| format!("{name} = excluded.{name}")).collect();
        let is_another: Vec<String> = columns
            .iter()
            .map(|(name, _)| format!("k.{name} is distinct from excluded.{name}"))
            .collect();
        format!(
            ", left{number} as (delete from {table} as k using given as u where u.id = \
             k.parent_id and k.position not between 0 and jsonb_array_length(u.c{place}) - 1 and \
             u.id in (select w.id from written as w)), put{number} as (insert into {table} as k \
             (parent_id, position{}) select u.id, g.position{} from given as u cross join \
             lateral {} as g where u.id in (select w.id from written as w) on conflict \
             (parent_id, position) do update set {} where {})",
            self.names(""),
            self.values(),
            self.elements(),
            assignments.join(", "),
            is_another.join(" or "),
        )
    }
}
