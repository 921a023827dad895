//! What the configuration wants of a table in the target: of one that is followed into, and of that
//! of its rows' versions. Pure.

use crate::model::namespace::Table;
use crate::settings::{Column, Keeping};

/// A column's name, and its type as `format_type` writes it.
pub(super) type Typed<'a> = (&'a str, &'static str);

/// The columns that every followed table has, beside those of the configuration.
pub(super) const FIXED: [Typed<'static>; 4] =
    [("id", "text"), DOC, ("_cluster_time", "bigint"), ("_applied_at", "timestamp with time zone")];

/// One more, which is added to a table that is there: the first releases made theirs without.
pub(super) const HASH: Typed<'static> = ("_hash", "bigint");

/// The column of the whole document, where it is kept.
pub(super) const DOC: Typed<'static> = ("doc", "jsonb");

/// The column of tables whose rows are marked when their documents are deleted.
pub(super) const DELETED_AT: Typed<'static> = ("_deleted_at", "timestamp with time zone");

/// The columns of every table of versions, beside those of the rows' contents.
const VERSION: [Typed<'static>; 6] = [
    ("id", "text"),
    ("_valid_from", "bigint"),
    ("_valid_to", "bigint"),
    ("_valid_from_at", "timestamp with time zone"),
    ("_valid_to_at", "timestamp with time zone"),
    ("_operation", "text"),
];

/// What is wanted of one table.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub table: &'a Table,
    pub(super) columns: &'a [Column],
    pub(super) keeping: Keeping,
    /// It is the table of versions.
    is_history: bool,
}

impl<'a> Wanted<'a> {
    /// A followed table.
    pub const fn of(table: &'a Table, columns: &'a [Column], keeping: Keeping) -> Self {
        Self { table, columns, keeping, is_history: false }
    }

    /// The tables of a stream: the followed one; and that of versions, if these are kept.
    pub fn all(
        [table, history]: [&'a Table; 2],
        columns: &'a [Column],
        keeping: Keeping,
    ) -> impl Iterator<Item = Self> {
        let versions = Self { is_history: true, ..Self::of(history, columns, keeping) };
        [Self::of(table, columns, keeping)].into_iter().chain(keeping.history.then_some(versions))
    }

    /// The columns of the configuration.
    pub const fn number(self) -> usize {
        self.columns.len()
    }

    /// Rows in it are marked when their documents are deleted.
    pub(super) fn has_marks(self) -> bool {
        self.keeping.marks_deletes() && !self.is_history
    }

    /// The columns without which the table is somebody else's.
    pub(super) fn fixed(self) -> Vec<Typed<'static>> {
        if self.is_history {
            return VERSION.to_vec();
        }
        FIXED.into_iter().filter(|column| *column != DOC || self.keeping.doc).collect()
    }

    /// The columns that are added to a table that lacks them.
    pub(super) fn added(self) -> Vec<Typed<'a>> {
        let mut added: Vec<Typed<'a>> = if self.is_history {
            Vec::from_iter(self.keeping.doc.then_some(DOC))
        } else {
            [HASH].into_iter().chain(self.has_marks().then_some(DELETED_AT)).collect()
        };
        added.extend(self.columns.iter().map(|column| (&*column.name, column.kind.sql())));
        added
    }

    /// The statements that make the table, without what is added.
    pub(super) fn creation(self) -> Vec<String> {
        let sql = self.table.sql();
        if !self.is_history {
            let doc = if self.keeping.doc { "doc jsonb not null, " } else { "" };
            return vec![format!(
                "create table if not exists {sql} (id text primary key, {doc}_cluster_time bigint \
                 not null, _applied_at timestamptz not null default now(), _hash bigint)"
            )];
        }
        let at = |time: &str| {
            format!("{time}_at timestamptz generated always as (to_timestamp({time} >> 32)) stored")
        };
        let (from, to) = (at("_valid_from"), at("_valid_to"));
        vec![
            format!(
                "create table if not exists {sql} (id text not null, _valid_from bigint not null, \
                 _valid_to bigint, {from}, {to}, _operation text not null, primary key (id, \
                 _valid_from))"
            ),
            format!("create index on {sql} (id) where _valid_to is null"),
            format!("create index on {sql} (_valid_to_at)"),
        ]
    }
}
