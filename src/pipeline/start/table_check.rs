//! Whether a stream's table is what is written to it.

use std::sync::atomic::Ordering;

use sqlx::postgres::PgConnection;

use crate::apply::{Wanted, ensure, ensure_as_of, read_live};
use crate::error::Fault;
use crate::model::namespace::Table;
use crate::pipeline::context::Context;
use crate::postgres::with_deadline;

/// Makes or widens the table, once a process and if that is allowed, since somebody may change it
/// later; and checks it.
pub(in crate::pipeline) async fn see_to(
    context: &Context,
    connection: &mut PgConnection,
) -> Result<(), Fault> {
    let target = &context.target;
    let history = context.table.history();
    if context.settings.migrate.automatic && !context.widened.load(Ordering::Relaxed) {
        for wanted in wanted(context, &history) {
            context.state.refuse_table(&mut *connection, wanted.table).await?;
            for statement in ensure(connection, target, wanted).await? {
                tracing::info!(stream = context.config.name, "migrated: {statement}");
            }
        }
        see_to_function(context, connection).await;
        context.widened.store(true, Ordering::Relaxed);
    }
    check_table(context, connection).await
}

/// What shows the table as it was is for people: it stops nothing if it cannot be made.
async fn see_to_function(context: &Context, connection: &mut PgConnection) {
    let (target, config) = (&context.target, &context.config);
    let of = (&context.table, config.columns.as_slice());
    match ensure_as_of(connection, target, of, config.keeping).await {
        Ok(None) => {}
        Ok(Some(made)) => tracing::info!(stream = config.name, "migrated: {made}"),
        Err(fault) => tracing::warn!(stream = config.name, "left as it is: {fault}"),
    }
}

fn wanted<'a>(context: &'a Context, history: &'a Table) -> impl Iterator<Item = Wanted<'a>> {
    let config = &context.config;
    Wanted::all([&context.table, history], &config.columns, config.keeping)
}

/// Every statement is prepared against the live schema before the first event.
async fn check_table(context: &Context, connection: &mut PgConnection) -> Result<(), Fault> {
    let (target, history) = (&context.target, context.table.history());
    for wanted in wanted(context, &history) {
        read_live(connection, target, wanted.table).await?.fits(wanted)?;
    }
    for (_, statement) in context.statements.preparable() {
        let sql = sqlx::AssertSqlSafe(statement.to_string());
        let prepare =
            sqlx::Executor::prepare(&mut *connection, sqlx::SqlSafeStr::into_sql_str(sql));
        with_deadline(target.deadline(), prepare).await?;
    }
    Ok(())
}
