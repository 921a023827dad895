//! The function that shows a followed table as it was at a time, `TABLE_as_of(timestamptz)`, made
//! beside the table of versions. Nothing that tidemark does needs it.
//!
//! It is made of text that Postgres reads when it is called, so that it stands in the way of no
//! change of the tables.

use sqlx::postgres::PgConnection;

use super::contents::Contents;
use super::statements::living;
use crate::error::Fault;
use crate::model::namespace::{Table, quote};
use crate::model::value::ColumnType;
use crate::postgres::{Target, ddl, with_deadline};
use crate::settings::RowSpec;

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
    let name = format!("{}{AS_OF}", table.name);
    let function = Function::new(table, rows);
    let query = sqlx::query_scalar::<_, String>(
        "select p.prosrc from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace where \
         n.nspname = $1 and p.proname = $2 and p.proargtypes::text = \
         'timestamptz'::regtype::oid::text",
    );
    let query = query.bind(&table.schema).bind(&name);
    let there = with_deadline(target.deadline(), query.fetch_optional(connection)).await?;
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

struct Function {
    signature: String,
    /// The columns of its answer.
    shape: String,
    body: String,
}

impl Function {
    fn new(table: &Table, rows: RowSpec<'_>) -> Self {
        let contents = Contents::new(RowSpec { children: &[], ..rows });
        let name = format!("{}.{}", quote(&table.schema), quote(&format!("{}{AS_OF}", table.name)));
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
