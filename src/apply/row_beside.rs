//! One row, and beside it what its document would be written as: column by column.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, FromRow};

use super::child_tables::ChildTables;
use super::contents::Contents;
use super::row_writer::row_arguments;
use super::rows::Rows;
use super::statements::living;
use crate::error::Fault;
use crate::model::namespace::{Table, quote};
use crate::postgres::{Target, with_deadline};
use crate::settings::{Column, StreamSettings};

/// A row as it is; the values as Postgres shows them.
#[derive(Debug, Clone, FromRow)]
pub struct RowNow {
    pub cluster_time: Option<i64>,
    pub applied_at: Option<DateTime<Utc>>,
    pub hash: Option<i64>,
    pub doc: Option<String>,
    /// By column.
    pub values: Vec<Option<String>>,
}

/// What a document would be written as, beside the row that is there.
#[derive(Debug, Clone, FromRow)]
pub struct RowBeside {
    pub doc: Option<String>,
    pub doc_is_same: bool,
    /// By column.
    pub values: Vec<Option<String>>,
    pub same: Vec<bool>,
    /// By array that is kept in a table of its own: how many elements it has there, and how many
    /// in the document; whether they are the same.
    pub child_rows: Vec<i64>,
    pub child_elements: Vec<i64>,
    pub child_same: Vec<bool>,
}

/// The row with this id.
///
/// # Errors
/// Whatever Postgres answers.
pub async fn row_now(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    stream: &StreamSettings,
    id: &str,
) -> Result<Option<RowNow>, Fault> {
    let StreamSettings { columns, keeping, .. } = stream;
    let values = list(columns.iter().map(|column| format!("t.{}::text", quote(&column.name))));
    let doc = if keeping.doc { "t.doc::text" } else { "null::text" };
    let sql = AssertSqlSafe(format!(
        "select t._cluster_time as cluster_time, t._applied_at as applied_at, t._hash as hash, \
         {doc} as doc, array[{values}]::text[] as values from {} as t where t.id = $1",
        living(&table.sql(), *keeping)
    ));
    let query = sqlx::query_as(sql).bind(id).fetch_optional(connection);
    with_deadline(target.deadline(), query).await
}

/// The first of these rows, beside the row of its id. `None` if there are none.
///
/// # Errors
/// Whatever Postgres answers.
pub async fn row_beside(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    stream: &StreamSettings,
    rows: &Rows,
) -> Result<Option<RowBeside>, Fault> {
    let StreamSettings { columns, keeping, .. } = stream;
    if rows.is_empty() {
        return Ok(None);
    }
    let arguments = row_arguments(rows, 0..1, stream.rows())?;
    let is_array = |column: &Column| column.kind.sql() == "text[]";
    let value = |(index, column): (usize, &Column)| {
        let cast = if is_array(column) { "::text[]" } else { "" };
        format!("u.c{index}{cast}::text")
    };
    let same = |(index, column): (usize, &Column)| {
        let cast = if is_array(column) { "::text[]" } else { "" };
        format!("t.{} is not distinct from u.c{index}{cast}", quote(&column.name))
    };
    let values = list(columns.iter().enumerate().map(value));
    let sames = list(columns.iter().enumerate().map(same));
    let doc = format!("u.c{}", columns.len());
    let (doc, doc_is_same) = if keeping.doc {
        (format!("{doc}::text"), format!("t.doc is not distinct from {doc}"))
    } else {
        ("null::text".to_owned(), "true".to_owned())
    };
    let contents = Contents::new(stream.rows());
    let [there, given, are_same] = ChildTables::new(table, stream.rows(), &contents).beside();
    let sql = AssertSqlSafe(format!(
        "select {doc} as doc, {doc_is_same} as doc_is_same, array[{values}]::text[] as values, \
         array[{sames}]::bool[] as same, array[{there}]::bigint[] as child_rows, \
         array[{given}]::bigint[] as child_elements, array[{are_same}]::bool[] as child_same from \
         {} left join {} as t on t.id = u.id",
        contents.given().from,
        living(&table.sql(), *keeping)
    ));
    let query = sqlx::query_as_with(sql, arguments).fetch_optional(connection);
    with_deadline(target.deadline(), query).await
}

fn list(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}
