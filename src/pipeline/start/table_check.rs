//! Whether a stream's table is what is written to it.

use std::sync::atomic::Ordering;

use sqlx::postgres::PgConnection;

use crate::apply::{ensure, read_live};
use crate::error::Fault;
use crate::pipeline::context::Context;
use crate::postgres::with_deadline;

/// Makes or widens the table, once a process and if that is allowed, since somebody may change it
/// later; and checks it.
pub(in crate::pipeline) async fn see_to(
    context: &Context,
    connection: &mut PgConnection,
) -> Result<(), Fault> {
    let (target, table, columns) = (&context.target, &context.table, &context.config.columns);
    if context.settings.migrate.automatic && !context.widened.load(Ordering::Relaxed) {
        context.state.refuse_table(&mut *connection, table).await?;
        for statement in ensure(connection, target, table, columns).await? {
            tracing::info!(stream = context.config.name, "migrated: {statement}");
        }
        context.widened.store(true, Ordering::Relaxed);
    }
    check_table(context, connection).await
}

/// Every statement is prepared against the live schema before the first event.
async fn check_table(context: &Context, connection: &mut PgConnection) -> Result<(), Fault> {
    let (target, table) = (&context.target, &context.table);
    read_live(connection, target, table).await?.fits(table, &context.config.columns)?;
    for (_, statement) in context.statements.preparable() {
        let sql = sqlx::AssertSqlSafe(statement.to_string());
        let prepare =
            sqlx::Executor::prepare(&mut *connection, sqlx::SqlSafeStr::into_sql_str(sql));
        with_deadline(target.deadline(), prepare).await?;
    }
    Ok(())
}
