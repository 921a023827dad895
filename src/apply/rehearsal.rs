//! Every statement of a stream's data path, executed over no row at all and rolled back: `prepare`
//! asks neither for the rights to run it nor for what only execution refuses.

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments, AssertSqlSafe, Connection};

use super::copy::{END, SIGNATURE};
use super::row_writer::{add_operation, row_arguments};
use super::rows::Rows;
use super::schema::Kind;
use super::statements::Statements;
use crate::error::Fault;
use crate::postgres::{Target, with_deadline};
use crate::settings::RowSpec;

/// What each statement comes to on a table of this kind, by its name.
pub async fn rehearse(
    connection: &mut PgConnection,
    target: &Target,
    statements: &Statements,
    rows: RowSpec<'_>,
    kind: Kind,
) -> Vec<(&'static str, Result<(), Fault>)> {
    let mut came = Vec::new();
    for (name, sql) in statements.preparable() {
        // The repair of the other kind of table is never run.
        if name == if kind == Kind::Partitioned { "repair" } else { "repair of partitions" } {
            continue;
        }
        came.push((name, execute(connection, target, sql, arguments(name, rows)).await));
    }
    if !statements.writes_beside {
        came.push(("copy", copy(connection, target, &statements.copy).await));
    }
    came
}

async fn execute(
    connection: &mut PgConnection,
    target: &Target,
    sql: &str,
    arguments: Result<PgArguments, Fault>,
) -> Result<(), Fault> {
    let query = sqlx::query_with(AssertSqlSafe(sql.to_owned()), arguments?);
    with_deadline(target.deadline(), async {
        let mut transaction = connection.begin().await?;
        query.execute(&mut *transaction).await?;
        transaction.rollback().await
    })
    .await
}

async fn copy(connection: &mut PgConnection, target: &Target, sql: &str) -> Result<(), Fault> {
    with_deadline(target.deadline(), async {
        let mut transaction = connection.begin().await?;
        let mut sink = transaction.copy_in_raw(sql).await?;
        sink.send(SIGNATURE).await?;
        sink.send(END.as_slice()).await?;
        sink.finish().await?;
        transaction.rollback().await
    })
    .await
}

/// The arguments with which the statement of this name is executed over no row at all.
fn arguments(name: &str, rows: RowSpec<'_>) -> Result<PgArguments, Fault> {
    let (none, no_numbers): (&[&str], &[i64]) = (&[], &[]);
    let mut arguments = PgArguments::default();
    let added = match name {
        "upsert" | "repair" | "repair of partitions" | "compare" => {
            arguments = row_arguments(&Rows::default(), 0..0, rows)?;
            if rows.keeping.history && name != "compare" {
                add_operation(&mut arguments, None)?;
            }
            if name.starts_with("repair") { arguments.add(false) } else { Ok(()) }
        }
        "segment" => arguments.add("").and_then(|()| arguments.add(0_i64)),
        "unknown between" => arguments
            .add(none)
            .and_then(|()| arguments.add(no_numbers))
            .and_then(|()| arguments.add(""))
            .and_then(|()| arguments.add(""))
            .and_then(|()| arguments.add(0_i64)),
        "unknown" => arguments.add(none).and_then(|()| arguments.add(no_numbers)),
        "delete" => arguments
            .add(none)
            .and_then(|()| arguments.add(no_numbers))
            .and_then(|()| arguments.add(no_numbers)),
        "times" => arguments.add(none),
        "older" => arguments.add(none).and_then(|()| arguments.add(0_i64)),
        _ => Ok(()),
    };
    added.map(|()| arguments).map_err(|_| Fault::bug("an empty argument could not be bound"))
}
