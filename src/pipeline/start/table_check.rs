//! Whether a stream's table is what is written to it.

use std::sync::atomic::Ordering;

use sqlx::postgres::PgConnection;

use crate::apply::{Lacked, Wanted, end_stale_versions, ensure, ensure_as_of, read_live};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::pipeline::context::Context;
use crate::postgres::with_deadline;

/// Makes or widens the table, once a process and if that is allowed, since somebody may change it
/// later; and checks it. `true`: something that rows had was lacking, and is remembered no more.
pub(in crate::pipeline) async fn see_to(
    context: &Context,
    connection: &mut PgConnection,
) -> Result<bool, Fault> {
    let target = &context.target;
    let lacked = Lacked::of(connection, target, wanted(context)).await?;
    let (state, now) = (&context.state, context.mapping.digest());
    let forgotten = lacked.forget(connection, state, &context.config.name, now).await?;
    if context.settings.migrate.automatic && !context.widened.load(Ordering::Relaxed) {
        for wanted in wanted(context) {
            context.state.refuse_table(&mut *connection, &wanted.table).await?;
            if lacked.is_unfit {
                for statement in ensure(connection, target, &wanted).await? {
                    tracing::info!(stream = context.config.name, "migrated: {statement}");
                }
            }
        }
        see_to_function(context, connection).await;
        context.widened.store(true, Ordering::Relaxed);
    }
    check_table(context, connection, lacked.is_unfit).await?;
    Ok(forgotten)
}

/// What shows the table as it was is for people: it stops nothing if it cannot be made.
async fn see_to_function(context: &Context, connection: &mut PgConnection) {
    let (target, config) = (&context.target, &context.config);
    match ensure_as_of(connection, target, &context.table, config.rows()).await {
        Ok(None) => {}
        Ok(Some(made)) => tracing::info!(stream = config.name, "migrated: {made}"),
        Err(fault) => tracing::warn!(stream = config.name, "left as it is: {fault}"),
    }
}

/// Ends versions of the time before they begin to be kept, as far as they are not the rows'.
pub(super) async fn end_versions(
    context: &Context,
    connection: &mut PgConnection,
    until: ClusterTime,
) -> Result<(), Fault> {
    let Context { target, statements, config, .. } = context;
    let versions = end_stale_versions(connection, target, statements, until).await?;
    if versions > 0 {
        tracing::info!(stream = config.name, versions, "versions of other rows are ended");
    }
    Ok(())
}

pub(super) fn wanted(context: &Context) -> impl Iterator<Item = Wanted<'_>> {
    Wanted::all(&context.table, context.config.rows())
}

/// Every statement is prepared against the live schema before the first event.
async fn check_table(
    context: &Context,
    connection: &mut PgConnection,
    was_unfit: bool,
) -> Result<(), Fault> {
    let target = &context.target;
    for wanted in wanted(context).filter(|_| was_unfit) {
        read_live(connection, target, &wanted.table).await?.fits(&wanted)?;
    }
    for (_, statement) in context.statements.preparable() {
        let sql = sqlx::AssertSqlSafe(statement.to_string());
        let prepare =
            sqlx::Executor::prepare(&mut *connection, sqlx::SqlSafeStr::into_sql_str(sql));
        with_deadline(target.deadline(), prepare).await?;
    }
    Ok(())
}
