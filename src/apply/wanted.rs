//! What the configuration wants of a table in the target: of one that is followed into, of that of
//! its rows' versions, and of those of its documents' arrays. Pure.

use crate::model::namespace::Table;
use crate::settings::{Column, Keeping, RowSpec};

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
pub(super) const VERSION: [Typed<'static>; 6] = [
    ("id", "text"),
    ("_valid_from", "bigint"),
    ("_valid_to", "bigint"),
    ("_valid_from_at", "timestamp with time zone"),
    ("_valid_to_at", "timestamp with time zone"),
    ("_operation", "text"),
];

/// The columns of every table of an array's elements, beside those of the configuration.
const CHILD: [Typed<'static>; 2] = [("parent_id", "text"), ("position", "integer")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Followed,
    Versions,
    Child,
}

/// What is wanted of one table.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    pub table: Table,
    pub(super) columns: &'a [Column],
    pub(super) keeping: Keeping,
    role: Role,
}

impl<'a> Wanted<'a> {
    /// The tables of a stream: the followed one; that of versions, if these are kept; those of
    /// arrays.
    pub fn all(table: &Table, rows: RowSpec<'a>) -> impl Iterator<Item = Self> {
        let RowSpec { columns, keeping, children } = rows;
        let of = move |table, columns, role| Self { table, columns, keeping, role };
        let versions = keeping.history.then(|| of(table.history(), columns, Role::Versions));
        let schema = table.clone();
        let children = children.iter().map(move |child| {
            of(schema.beside(&child.table), child.columns.as_slice(), Role::Child)
        });
        std::iter::once(of(table.clone(), columns, Role::Followed)).chain(versions).chain(children)
    }

    /// A followed table.
    #[cfg(test)]
    pub fn of(table: &Table, columns: &'a [Column], keeping: Keeping) -> Self {
        Self { table: table.clone(), columns, keeping, role: Role::Followed }
    }

    /// It is the table that a stream is followed into.
    pub fn is_followed(&self) -> bool {
        self.role == Role::Followed
    }

    /// It is the table of versions.
    pub fn is_of_versions(&self) -> bool {
        self.role == Role::Versions
    }

    /// The name by which the mapping remembers it, if it is a table of an array's elements.
    pub fn child(&self) -> Option<&str> {
        (self.role == Role::Child).then_some(self.table.name.as_str())
    }

    /// The columns of the configuration.
    pub const fn columns(&self) -> &'a [Column] {
        self.columns
    }

    /// Whether the table is nobody's without this column.
    pub fn is_fixed(&self, column: &str) -> bool {
        self.fixed().iter().any(|(name, _)| *name == column)
    }

    /// Rows in it are marked when their documents are deleted.
    pub(super) fn has_marks(&self) -> bool {
        self.keeping.marks_deletes() && self.is_followed()
    }

    /// The columns without which the table is somebody else's.
    pub(super) fn fixed(&self) -> Vec<Typed<'static>> {
        match self.role {
            Role::Followed => {
                FIXED.into_iter().filter(|column| *column != DOC || self.keeping.doc).collect()
            }
            Role::Versions => VERSION.to_vec(),
            Role::Child => CHILD.to_vec(),
        }
    }

    /// The columns that are added to a table that lacks them.
    pub(super) fn added(&self) -> Vec<Typed<'a>> {
        let mut added: Vec<Typed<'a>> = match self.role {
            Role::Followed => {
                [HASH].into_iter().chain(self.has_marks().then_some(DELETED_AT)).collect()
            }
            Role::Versions => Vec::from_iter(self.keeping.doc.then_some(DOC)),
            Role::Child => Vec::new(),
        };
        added.extend(self.columns.iter().map(|column| (&*column.name, column.kind.sql())));
        added
    }

    /// The statements that make the table, without what is added.
    pub(super) fn creation(&self) -> Vec<String> {
        let sql = self.table.sql();
        match self.role {
            Role::Followed => {
                let doc = if self.keeping.doc { "doc jsonb not null, " } else { "" };
                vec![format!(
                    "create table if not exists {sql} (id text primary key, {doc}_cluster_time \
                     bigint not null, _applied_at timestamptz not null default now(), _hash bigint)"
                )]
            }
            Role::Versions => of_versions(&sql),
            Role::Child => vec![format!(
                "create table if not exists {sql} (parent_id text not null, position integer not \
                 null, primary key (parent_id, position))"
            )],
        }
    }
}

fn of_versions(sql: &str) -> Vec<String> {
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
