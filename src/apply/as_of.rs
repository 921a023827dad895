//! The function that shows a followed table as it was at a time, `TABLE_as_of(timestamptz)`, made
//! beside the table of versions. Nothing that tidemark does needs it.
//!
//! It is made of text that Postgres reads when it is called, so that it stands in the way of no
//! change of the tables.

use sqlx::postgres::PgConnection;

use super::contents::Contents;
use super::schema::read_live;
use super::statements::living;
use crate::error::Fault;
use crate::model::namespace::Table;
use crate::model::value::ColumnType;
use crate::postgres::{Target, ddl, with_deadline};
use crate::settings::{Keeping, RowSpec};

/// What follows a table's name in that of the function.
const AS_OF: &str = "_as_of";

/// Makes the function, if versions are kept and it is not there as it should be: what was run.
///
/// # Errors
/// It cannot be made, or not in the place of the one that is there.
pub async fn ensure_as_of(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    rows: RowSpec<'_>,
) -> Result<Option<String>, Fault> {
    if !rows.keeping.history {
        return Ok(None);
    }
    let name = as_of(table);
    let function = Function::new(table, rows);
    let there = body_of(connection, target, table, &name).await?;
    if there.as_deref() == Some(&function.body) {
        return Ok(None);
    }
    let Function { signature, shape, body } = function;
    let create = format!(
        "create function {signature} returns table ({shape}) language sql stable as '{}'",
        body.replace('\'', "''")
    );
    let both = [format!("drop function if exists {signature}"), create];
    ddl::change(target, &table.sql(), &format!("function {signature}"), &both).await?;
    Ok(Some(format!("create function {signature}")))
}

/// What is left of versions that are not kept any more: what is there, for people, and what drops
/// it. None, where there is none or they are kept.
///
/// # Errors
/// The catalogue cannot be read.
pub async fn left_versions(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    keeping: Keeping,
) -> Result<Option<(String, String)>, Fault> {
    if keeping.history {
        return Ok(None);
    }
    let (history, name) = (table.history(), as_of(table));
    let live = read_live(connection, target, &history).await?;
    let function = body_of(connection, target, table, &name).await?;
    let (mut left, mut drops) = (Vec::new(), Vec::new());
    if function.is_some_and(|body| body.contains("_valid_from")) {
        left.push(format!("function {}.{name}", table.schema));
        drops.push(format!("drop function {}(timestamptz);", table.beside(&name).sql()));
    }
    if live.is_of_versions() {
        left.push(format!("table {history}"));
        drops.push(format!("drop table {};", history.sql()));
    }
    Ok((!left.is_empty()).then(|| (left.join(" and "), drops.join(" "))))
}

fn as_of(table: &Table) -> String {
    format!("{}{AS_OF}", table.name)
}

/// The text of a function of one time, if there is one of the name.
async fn body_of(
    connection: &mut PgConnection,
    target: &Target,
    table: &Table,
    name: &str,
) -> Result<Option<String>, Fault> {
    let query = sqlx::query_scalar::<_, String>(
        "select p.prosrc from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace where \
         n.nspname = $1 and p.proname = $2 and p.proargtypes::text = \
         'timestamptz'::regtype::oid::text",
    );
    let query = query.bind(&table.schema).bind(name);
    with_deadline(target.deadline(), query.fetch_optional(connection)).await
}

struct Function {
    signature: String,
    /// The columns of its answer.
    shape: String,
    body: String,
}

impl Function {
    fn new(table: &Table, rows: RowSpec<'_>) -> Self {
        let contents = Contents::new(RowSpec { children: &[], ..rows });
        let name = table.beside(&as_of(table)).sql();
        let kinds = contents.kinds.iter().map(|kind: &ColumnType| kind.sql());
        let shape: Vec<String> =
            contents.names.iter().zip(kinds).map(|(name, kind)| format!("{name} {kind}")).collect();
        let (history, living) = (table.history().sql(), living(&table.sql(), rows.keeping));
        // All that was at the second: the last cluster time of it.
        let time = "(floor(extract(epoch from $1))::bigint << 32) + 4294967295";
        let body = format!(
            "select h.id, {}, h._valid_from from {history} as h where h._valid_from <= {time} and \
             (h._valid_to > {time} or h._valid_to is null) union all select t.id, {}, \
             coalesce(t._cluster_time, 0) from {living} as t where coalesce(t._cluster_time, 0) <= \
             {time} and not exists (select from {history} as h where h.id = t.id and h._valid_to \
             is null)",
            contents.list("h."),
            contents.list("t.")
        );
        Self {
            signature: format!("{name}(timestamptz)"),
            shape: format!("id text, {}, _valid_from bigint", shape.join(", ")),
            body,
        }
    }
}
