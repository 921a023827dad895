//! Looks whether what parked a stream is gone: whether its table is what it should be, can be
//! locked, takes a write in time, and its collection is there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use tokio::time::Instant;

use super::context::Context;
use super::start::{allowed, is_let_go, is_of_this_source, see_to};
use crate::error::{Class, Code, Fault};
use crate::model::reason::Reason;
use crate::postgres::{close, with_deadline};
use crate::retry;
use crate::source::Found;

/// Rows that are written on trial, and how long that may take.
const TRIAL_ROWS: u32 = 100;
const TRIAL_TIME: Duration = Duration::from_millis(1_000);

/// The same of a table that others are held against: its neighbours wait meanwhile.
const FEW_ROWS: u32 = 10;

/// Whether another group has let a stream go is looked at this often, so many times: a moment later
/// after a reload, as late as the last of its replicas goes while a release is rolled out.
const LET_GO_INTERVAL: Duration = Duration::from_secs(1);
const LET_GO_LOOKS: u64 = 300;

/// Looks at these streams, each later and later, until what parked one of them is gone.
pub async fn until_one_may_go_on(parked: Vec<(Context, Code)>) {
    let Some(settings) = parked.first().map(|(context, _)| context.settings.retry) else { return };
    let due = |context: &Context, code: Code, looks: u64| {
        if code == Code::StreamParked && looks <= LET_GO_LOOKS {
            return Instant::now() + LET_GO_INTERVAL;
        }
        let times = context.parked_times.load(Ordering::Relaxed);
        Instant::now() + retry::delay(settings, times + looks, fastrand::f64())
    };
    let mut looks: Vec<(u64, Instant)> =
        parked.iter().map(|(context, code)| (0, due(context, *code, 1))).collect();
    loop {
        let first = looks.iter().map(|(_, at)| *at).min().unwrap_or_else(Instant::now);
        tokio::time::sleep_until(first).await;
        for ((context, code), (looks, at)) in parked.iter().zip(&mut looks) {
            if *at > Instant::now() {
                continue;
            }
            *looks += 1;
            *at = due(context, *code, *looks + 1);
            let stream = &context.config.name;
            match may_go_on(context, *code).await {
                Ok(()) if *code == Code::StreamParked => {
                    tracing::info!(%stream, "the other group has let the stream go: it goes on");
                    return;
                }
                Ok(()) => {
                    tracing::info!(
                        %stream,
                        "what parked the stream is gone: it is repaired by a resync"
                    );
                    return;
                }
                Err(fault) => tracing::debug!(%stream, "still parked: {fault}"),
            }
        }
    }
}

/// Whether a stream can be followed, as far as that can be told without following it.
///
/// # Errors
/// Why it cannot.
async fn may_go_on(context: &Context, code: Code) -> Result<(), Fault> {
    if code == Code::StreamParked {
        return is_let_go(context).await;
    }
    if code == Code::SourceForeign {
        is_of_this_source(context).await??;
    }
    if code == Code::HistoryLost {
        allowed(context, Reason::HistoryLost, "its history was lost").await?;
    }
    let found = context.source.find_collection(&context.config.collection).await?;
    let is_there = match found {
        Found::Collection(_) => true,
        Found::Nothing => code != Code::SourceDropped,
        Found::View | Found::TimeSeries => false,
    };
    if !is_there {
        let message = format!("there is no collection {}", context.namespace);
        return Err(Fault::new(Class::Halt, Code::SourceDropped, message, ""));
    }
    let mut connection = context.target.connect().await?;
    see_to(context, &mut connection).await?;
    let tried = try_to_write(context, &mut connection, TRIAL_ROWS).await;
    close(connection).await;
    tried
}

/// Whether the table takes a few rows in time, as one does that nothing is wrong with while the
/// server is well.
pub async fn is_quick(context: &Context) -> bool {
    let asked = async {
        let mut connection = context.target.connect().await?;
        let tried = try_to_write(context, &mut connection, FEW_ROWS).await;
        close(connection).await;
        tried
    };
    matches!(tokio::time::timeout(TRIAL_TIME * 3, asked).await, Ok(Ok(())))
}

/// Writes a few rows as they are, and takes that back: what locks the table, refuses its rows or
/// holds writes up is met so.
async fn try_to_write(
    context: &Context,
    connection: &mut PgConnection,
    rows: u32,
) -> Result<(), Fault> {
    let table = context.table.sql();
    let write = AssertSqlSafe(format!(
        "update {table} as t set _applied_at = t._applied_at from (select id from {table} limit \
         {rows}) as few where t.id = few.id"
    ));
    let begun = Instant::now();
    with_deadline(context.target.deadline(), async {
        let mut transaction = connection.begin().await?;
        let limits = "set local lock_timeout = 500; set local statement_timeout = 3000; set \
                      constraints all immediate";
        sqlx::raw_sql(limits).execute(&mut *transaction).await?;
        sqlx::query(write).execute(&mut *transaction).await?;
        transaction.rollback().await
    })
    .await?;
    if begun.elapsed() <= TRIAL_TIME {
        return Ok(());
    }
    let message = format!("{rows} rows take {:?} to write", begun.elapsed());
    Err(Fault::new(Class::Transient, Code::TargetSlow, message, ""))
}
