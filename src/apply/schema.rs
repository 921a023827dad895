//! The followed table as it stands, against the configuration: what to add, and what does not fit.
//!
//! Configuration only ever adds columns. A wrong type is reported, never altered. Nothing is run that is not
//! needed, so a user without the right to create can follow into tables that are already there.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use crate::error::{Class, Code, Fault};
use crate::model::namespace::{Table, quote};
use crate::postgres::{Target, within};
use crate::settings::Column;

/// The columns every followed table has, beside those of the configuration.
const FIXED: [(&str, &str); 5] = [
    ("id", "text"),
    ("doc", "jsonb"),
    ("_cluster_time", "bigint"),
    ("_applied_at", "timestamp with time zone"),
    ("_hash", "bigint"),
];

/// A table's columns in the database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveTable {
    pub schema_exists: bool,
    /// (name, type as `format_type` writes it); `None` if there is no such table.
    pub columns: Option<Vec<(String, String)>>,
}

impl LiveTable {
    /// The statements that bring the table to what the configuration needs.
    pub fn additions(&self, table: &Table, columns: &[Column]) -> Vec<String> {
        let sql = table.sql();
        let mut statements = Vec::new();
        if !self.schema_exists {
            statements.push(format!("create schema if not exists {}", quote(&table.schema)));
        }
        if self.columns.is_none() {
            statements.push(format!(
                "create table if not exists {sql} (id text primary key, doc jsonb not null, \
                 _cluster_time bigint not null, _applied_at timestamptz not null default now(), _hash bigint)"
            ));
        }
        let live = self.columns.as_deref().unwrap_or_default();
        if self.columns.is_some() && !live.iter().any(|(name, _)| name == "_hash") {
            statements.push(format!("alter table {sql} add column if not exists _hash bigint"));
        }
        for column in columns.iter().filter(|column| !live.iter().any(|(name, _)| *name == column.name)) {
            let (name, kind) = (quote(&column.name), column.kind.sql());
            statements.push(format!("alter table {sql} add column if not exists {name} {kind}"));
        }
        statements
    }

    /// What is missing or of another type, one sentence each.
    pub fn differences(&self, table: &Table, columns: &[Column]) -> Vec<String> {
        let Some(live) = &self.columns else { return vec![format!("table {table} does not exist")] };
        let wanted = FIXED.into_iter().chain(columns.iter().map(|c| (c.name.as_str(), c.kind.sql())));
        wanted
            .filter_map(|(name, kind)| match live.iter().find(|(live, _)| live == name) {
                None => Some(format!("column {name} of table {table} does not exist")),
                Some((_, found)) if found != kind => {
                    Some(format!("column {name} of table {table} is {found}, the configuration says {kind}"))
                }
                Some(_) => None,
            })
            .collect()
    }
}

/// Reads a table's columns from the catalogue.
///
/// # Errors
/// The catalogue cannot be read.
pub async fn read_live(connection: &mut PgConnection, target: &Target, table: &Table) -> Result<LiveTable, Fault> {
    let exists = sqlx::query_scalar::<_, bool>("select exists (select from pg_namespace where nspname = $1)")
        .bind(&table.schema);
    let schema_exists = within(target.deadline(), exists.fetch_one(&mut *connection)).await?;
    let query = sqlx::query_as::<_, (String, String)>(
        "select a.attname::text, format_type(a.atttypid, a.atttypmod) from pg_attribute a \
         join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace \
         where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped \
         order by a.attnum",
    )
    .bind(&table.schema)
    .bind(&table.name);
    let columns = within(target.deadline(), query.fetch_all(&mut *connection)).await?;
    Ok(LiveTable { schema_exists, columns: Some(columns).filter(|c| !c.is_empty()) })
}

/// Creates the table and adds what it lacks. Returns the statements that were run.
///
/// # Errors
/// The database refuses, or a column has another type than the configuration says.
pub async fn ensure(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    columns: &[Column],
) -> Result<Vec<String>, Fault> {
    let additions = read_live(connection, target, table).await?.additions(table, columns);
    for statement in &additions {
        let run = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(&mut *connection);
        within(target.deadline(), run).await?;
    }
    let differences = read_live(connection, target, table).await?.differences(table, columns);
    if differences.is_empty() {
        return Ok(additions);
    }
    let hint = "alter the column, or change its type in [[stream.column]]; tidemark never retypes a column";
    Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, differences.join("; "), hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::value::ColumnType;

    #[test]
    fn only_what_is_missing_is_added_and_a_wrong_type_is_named() {
        let table = Table { schema: "public".into(), name: "doctor".into() };
        let column = |name: &str, kind| Column { name: name.into(), paths: vec![], kind, required: false };
        let columns = [column("a", ColumnType::Text), column("b", ColumnType::Date)];
        let fresh = LiveTable::default();
        assert_eq!(fresh.additions(&table, &columns).len(), 4);
        let live = |list: &[(&str, &str)]| LiveTable {
            schema_exists: true,
            columns: Some(list.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect()),
        };
        let old = live(&[&FIXED[..], &[("a", "integer")]].concat());
        assert_eq!(
            old.additions(&table, &columns),
            ["alter table \"public\".\"doctor\" add column if not exists \"b\" date"]
        );
        let differences = old.differences(&table, &columns);
        assert_eq!(
            differences,
            [
                "column a of table public.doctor is integer, the configuration says text",
                "column b of table public.doctor does not exist"
            ]
        );
    }
}
