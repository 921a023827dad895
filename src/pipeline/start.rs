//! How a stream begins: from its stored position, or with a first position and a first walk.

use std::sync::atomic::Ordering;

use super::binding::{Verdict, halt_on, judge, look, remember};
use super::{Context, heal, wait_or_give_up};
use crate::apply::{ensure, read_live};
use crate::error::{Class, Code, Fault};
use crate::model::phase::{Happened, Phase};
use crate::model::position::Position;
use crate::model::reason::Reason;
use crate::model::step::Step;
use crate::postgres::{close, with_deadline};
use crate::retry::Backoff;
use crate::source::ChangeStream;
use crate::state::{Lease, Start, WalkRow};

/// A stream ready to be followed.
#[derive(Debug)]
pub struct Started {
    pub position: Position,
    /// The checkpoint's, when position and walk were read.
    pub revision: i64,
    /// The feed, if opening it told the first position.
    pub feed: Option<ChangeStream>,
    pub walk: Option<WalkRow>,
    pub phase: Phase,
}

/// Takes up the stream, trying again for as long as the trouble is the world's. `trouble` is what
/// ended the pipeline before, if it is the position or the collection that is at fault.
pub async fn start(
    context: &Context,
    lease: &Lease,
    trouble: Option<&Fault>,
) -> Result<Started, Fault> {
    context.enter(Phase::Resuming);
    let mut backoff = Backoff::new(context.settings.retry);
    loop {
        match attempt(context, lease, trouble).await {
            Ok(started) => {
                context.status.recovered(&[Step::Open]);
                return Ok(started);
            }
            Err(fault) => wait_or_give_up(context, Step::Open, &mut backoff, fault).await?,
        }
    }
}

async fn attempt(
    context: &Context,
    lease: &Lease,
    trouble: Option<&Fault>,
) -> Result<Started, Fault> {
    check_schema(context).await?;
    let stored = context.checkpoints.load(&context.config.name).await?;
    let stored = stored.ok_or_else(|| Fault::bug("a lease without a checkpoint row"))?;
    let start = stored.start(&context.namespace.to_string(), &context.fingerprint());
    if let Start::Refused(version) = start {
        let message = format!("the checkpoint was written by a newer release (format {version})");
        return Err(Fault::new(
            Class::Halt,
            Code::TargetSchemaMismatch,
            message,
            "run that release, or a later one",
        ));
    }
    let lost = trouble.filter(|fault| fault.class == Class::HistoryLost);
    let dropped = trouble.filter(|fault| fault.code == Code::SourceDropped);
    let binding = context.checkpoints.binding(&context.config.name).await?;
    let walk = context.checkpoints.open_walk(&context.config.name).await?;
    let walks = walk.as_ref().is_some_and(|walk| !walk.is_snapshot());
    let told = dropped.is_some() || stored.halt_code.as_deref() == Some(Code::SourceDropped.name());
    let here = look(context, &stored, binding.as_ref()).await?;
    let verdict = judge(binding.as_ref(), &here, &context.table, told, walks);
    halt_on(context, &verdict)?;
    let heal =
        async |reason, why: &str| heal::heal(context, lease, &stored, &here, reason, why).await;
    let position = match start {
        Start::Resume(position) => position,
        Start::New | Start::Refused(_) if !here.table.holds_rows => {
            return heal::first_snapshot(context, lease, &here).await;
        }
        Start::New | Start::Refused(_) => {
            let why = "no position is stored for this stream, though its table holds rows";
            return heal(Reason::PositionMissing, why).await;
        }
        Start::Lost(reason, why) => return heal(reason, &why).await,
    };
    match verdict {
        Verdict::Recreated(why) => return heal(Reason::CollectionRecreated, why).await,
        Verdict::TableFresh => return heal::first_snapshot(context, lease, &here).await,
        Verdict::TableReplaced(why) => return heal(Reason::TableReplaced, why).await,
        _ => {}
    }
    if let Some(fault) = dropped {
        return heal(Reason::CollectionRecreated, &fault.message).await;
    }
    if let Some(fault) = lost {
        return heal(Reason::HistoryLost, &fault.message).await;
    }
    let walked = walk.as_ref().and_then(|walk| walk.collection_uuid).zip(here.found.uuid());
    if walked.is_some_and(|(walked, found)| walked != found) {
        return heal(
            Reason::CollectionRecreated,
            "the collection that was walked is another one now",
        )
        .await;
    }
    if binding.is_none()
        && walk.is_none()
        && !here.table.holds_rows
        && holds_documents(context).await?
    {
        // The first release did not bind its positions.
        return heal(Reason::TableReplaced, "the table is empty, and the collection is not").await;
    }
    if verdict == Verdict::Known {
        remember(context, lease, &here, binding.as_ref()).await?;
    }
    taken_up(context, position, stored.revision, None).await
}

async fn holds_documents(context: &Context) -> Result<bool, Fault> {
    Ok(context.source.estimate(&context.config.collection).await? > 0)
}

/// Goes on from a position, with the walk that has not ended, if there is one.
pub(super) async fn taken_up(
    context: &Context,
    position: Position,
    revision: i64,
    feed: Option<ChangeStream>,
) -> Result<Started, Fault> {
    let walk = context.checkpoints.open_walk(&context.config.name).await?;
    let happened = match &walk {
        None => Happened::Resumed,
        Some(walk) if walk.is_snapshot() => Happened::SnapshotUnderWay,
        Some(_) => Happened::ResyncUnderWay,
    };
    let phase = Phase::Resuming.next(happened).unwrap_or(Phase::Streaming);
    Ok(Started { position, revision, feed, walk, phase })
}

/// What the stream needs of the database is there: tables of a format this release knows, and its
/// own table, which is made or widened once a process if that is allowed; somebody may change it
/// later. Every statement is prepared against the live schema before the first event.
async fn check_schema(context: &Context) -> Result<(), Fault> {
    let (target, table, columns) = (&context.target, &context.table, &context.config.columns);
    let mut connection = target.connect().await?;
    context.checkpoints.standing(&mut connection).await?;
    if context.settings.migrate.automatic && !context.widened.load(Ordering::Relaxed) {
        context.checkpoints.refuse_table(&mut connection, table).await?;
        for statement in ensure(&mut connection, target, table, columns).await? {
            tracing::info!(stream = context.config.name, "migrated: {statement}");
        }
        context.widened.store(true, Ordering::Relaxed);
    }
    read_live(&mut connection, target, table).await?.fits(table, columns)?;
    for (_, statement) in context.statements.preparable() {
        let sql = sqlx::AssertSqlSafe(statement.to_string());
        let prepare = sqlx::Executor::prepare(&mut connection, sqlx::SqlSafeStr::into_sql_str(sql));
        with_deadline(target.deadline(), prepare).await?;
    }
    close(connection).await;
    Ok(())
}
