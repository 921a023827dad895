//! The followed table as it stands, against the configuration: what to add, and what does not fit.
//!
//! Configuration only ever adds columns. A wrong type is reported, never altered. Nothing is run
//! that is not needed, so a user without the right to create can follow into tables that are
//! already there.

use sqlx::postgres::PgConnection;

use crate::error::{Class, Code, Fault};
use crate::model::namespace::{Table, quote};
use crate::postgres::{Target, ddl, with_deadline};
use crate::settings::Column;

/// The columns every followed table has, beside those of the configuration.
const FIXED: [(&str, &str); 5] = [
    ("id", "text"),
    ("doc", "jsonb"),
    ("_cluster_time", "bigint"),
    ("_applied_at", "timestamp with time zone"),
    ("_hash", "bigint"),
];

/// Of them, the only one that is added to a table that is there: the first releases made theirs
/// without. A table without the others is somebody else's.
const ADDED: &str = "_hash";

/// What goes by the followed table's name in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveTable {
    pub schema_exists: bool,
    /// `None` if nothing does.
    pub kind: Option<Kind>,
    /// (name, type as `format_type` writes it); empty if nothing does.
    pub columns: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Table,
    Partitioned,
    /// It cannot be followed into: what it is, for people.
    Other(&'static str),
}

impl Kind {
    fn of(relkind: &str) -> Self {
        match relkind {
            "r" => Self::Table,
            "p" => Self::Partitioned,
            "v" => Self::Other("a view"),
            "m" => Self::Other("a materialized view"),
            "f" => Self::Other("a foreign table"),
            _ => Self::Other("something else"),
        }
    }
}

impl LiveTable {
    /// The statements that bring the table to what the configuration needs.
    pub fn additions(&self, table: &Table, columns: &[Column]) -> Vec<String> {
        let sql = table.sql();
        let mut statements = Vec::new();
        if !self.schema_exists {
            statements.push(format!("create schema if not exists {}", quote(&table.schema)));
        }
        if self.kind.is_none() {
            statements.push(format!(
                "create table if not exists {sql} (id text primary key, doc jsonb not null, \
                 _cluster_time bigint not null, _applied_at timestamptz not null default now(), \
                 _hash bigint)"
            ));
        } else if self.lacks(ADDED) {
            statements.push(format!("alter table {sql} add column if not exists {ADDED} bigint"));
        }
        for column in columns.iter().filter(|column| self.lacks(&column.name)) {
            let (name, kind) = (quote(&column.name), column.kind.sql());
            statements.push(format!("alter table {sql} add column if not exists {name} {kind}"));
        }
        statements
    }

    fn lacks(&self, column: &str) -> bool {
        !self.columns.iter().any(|(name, _)| name == column)
    }

    /// What adding does not mend, one sentence each: it is looked for before anything is added, so
    /// that nothing is done to a table that is not tidemark's.
    pub fn misfits(&self, table: &Table, columns: &[Column]) -> Vec<String> {
        match self.kind {
            None => return Vec::new(),
            Some(Kind::Other(what)) => return vec![format!("{table} is {what}, not a table")],
            Some(Kind::Table | Kind::Partitioned) => {}
        }
        let wanted =
            FIXED.into_iter().chain(columns.iter().map(|c| (c.name.as_str(), c.kind.sql())));
        wanted
            .filter_map(|(name, kind)| match self.columns.iter().find(|(live, _)| live == name) {
                None if FIXED.iter().any(|(fixed, _)| *fixed == name && name != ADDED) => {
                    Some(format!(
                        "table {table} has no column {name} {kind}, as every table of \
                         tidemark's has"
                    ))
                }
                Some((_, found)) if found != kind => Some(format!(
                    "column {name} of table {table} is {found}, the configuration \
                     says {kind}"
                )),
                _ => None,
            })
            .collect()
    }

    /// What is to be added, one clause each.
    pub fn lacking(&self, table: &Table, columns: &[Column]) -> Vec<String> {
        if self.kind.is_none() {
            return vec![format!("table {table} does not exist")];
        }
        let names = [ADDED].into_iter().chain(columns.iter().map(|column| column.name.as_str()));
        names
            .filter(|name| self.lacks(name))
            .map(|name| format!("column {name} of table {table} does not exist"))
            .collect()
    }

    /// Whether rows can be written as the configuration says.
    ///
    /// # Errors
    /// They cannot, and why; where adding would mend it, with the statements.
    pub fn fits(&self, table: &Table, columns: &[Column]) -> Result<(), Fault> {
        let misfits = self.misfits(table, columns);
        if !misfits.is_empty() {
            let hint = "alter the table by hand, or name another in [[stream]]; tidemark only ever \
                        adds columns";
            return Err(Fault::new(
                Class::Halt,
                Code::TargetSchemaMismatch,
                misfits.join("; "),
                hint,
            ));
        }
        let lacking = self.lacking(table, columns);
        if lacking.is_empty() {
            return Ok(());
        }
        let message =
            format!("{}: {}", lacking.join("; "), self.additions(table, columns).join("; "));
        Err(Fault::new(
            Class::Halt,
            Code::TargetSchemaMismatch,
            message,
            "run `tidemark migrate`, or that statement",
        ))
    }
}

/// Reads from the catalogue what goes by the table's name.
///
/// # Errors
/// The catalogue cannot be read.
pub async fn read_live(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
) -> Result<LiveTable, Fault> {
    let query = sqlx::query_as::<_, (Option<String>, Vec<String>, Vec<String>)>(
        "select c.relkind::text, coalesce(array_agg(a.attname::text order by a.attnum) filter \
         (where a.attnum > 0), '{}'), coalesce(array_agg(format_type(a.atttypid, a.atttypmod) \
         order by a.attnum) filter (where a.attnum > 0), '{}') from pg_namespace as n left join \
         pg_class as c on c.relnamespace = n.oid and c.relname = $2 and c.relkind in ('r', 'p', \
         'v', 'm', 'f') left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not \
         a.attisdropped where n.nspname = $1 group by c.oid, c.relkind",
    )
    .bind(&table.schema)
    .bind(&table.name);
    Ok(match with_deadline(target.deadline(), query.fetch_optional(connection)).await? {
        None => LiveTable::default(),
        Some((kind, names, types)) => LiveTable {
            schema_exists: true,
            kind: kind.as_deref().map(Kind::of),
            columns: names.into_iter().zip(types).collect(),
        },
    })
}

/// Creates the table, or adds what it lacks, in one transaction. Returns the statements that were
/// run.
///
/// # Errors
/// What is there does not fit and is left as it is; a lock was not had in time (transient); the
/// database refuses.
pub async fn ensure(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    columns: &[Column],
) -> Result<Vec<String>, Fault> {
    let live = read_live(connection, target, table).await?;
    let additions = live.additions(table, columns);
    if live.misfits(table, columns).is_empty() && !additions.is_empty() {
        ddl::change(target, &table.sql(), &format!("table {table}"), &additions).await?;
        read_live(connection, target, table).await?.fits(table, columns)?;
        return Ok(additions);
    }
    live.fits(table, columns)?;
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::ColumnType;

    #[test]
    fn only_what_is_missing_is_added_and_a_wrong_type_is_named() {
        let table = Table { schema: "public".into(), name: "doctor".into() };
        let column =
            |name: &str, kind| Column { name: name.into(), paths: vec![], kind, required: false };
        let columns = [column("a", ColumnType::Text), column("b", ColumnType::Date)];
        let fresh = LiveTable::default();
        assert_eq!(fresh.additions(&table, &columns).len(), 4);
        assert_eq!(fresh.misfits(&table, &columns), [""; 0], "what is not there fits");
        let live = |list: &[(&str, &str)]| LiveTable {
            schema_exists: true,
            kind: Some(Kind::Table),
            columns: list.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect(),
        };
        let old = live(&[&FIXED[..], &[("a", "integer")]].concat());
        assert_eq!(
            old.additions(&table, &columns),
            ["alter table \"public\".\"doctor\" add column if not exists \"b\" date"]
        );
        assert_eq!(
            old.lacking(&table, &columns),
            ["column b of table public.doctor does not exist"]
        );
        assert_eq!(
            old.misfits(&table, &columns),
            ["column a of table public.doctor is integer, the configuration says text"]
        );
        let strange = live(&[
            ("id", "integer"),
            ("doc", "jsonb"),
            ("_applied_at", "timestamp with time zone"),
        ]);
        assert_eq!(
            strange.misfits(&table, &[]),
            [
                "column id of table public.doctor is integer, the configuration says text",
                "table public.doctor has no column _cluster_time bigint, as every table of \
                 tidemark's has"
            ]
        );
        let view = LiveTable { kind: Some(Kind::Other("a view")), ..live(&FIXED) };
        assert_eq!(view.misfits(&table, &columns), ["public.doctor is a view, not a table"]);
    }
}
