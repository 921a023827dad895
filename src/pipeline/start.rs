//! How a stream begins: from its stored position; or, where there is none or it cannot be used,
//! with a new position and then a walk, so that nothing falls between the two.

use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};

use super::binding::{BindingVerdict, Here, halt_on, judge, look, remember};
use super::context::{Context, retry};
use crate::apply::{ensure, read_live};
use crate::error::{Class, Code, Fault};
use crate::model::phase::{Happened, Phase};
use crate::model::position::{ClusterTime, Position};
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::model::step::Step;
use crate::postgres::{close, with_deadline};
use crate::source::ChangeStream;
use crate::state::{Beginning, Lease, Start, Stored, WalkRow};

/// A stream ready to be followed.
#[derive(Debug)]
pub struct Started {
    pub position: Position,
    /// The checkpoint's, when position and walk were read.
    pub revision: i64,
    /// The open change stream, if opening it told the first position.
    pub change_stream: Option<ChangeStream>,
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
    let started = retry!(context, Step::Open, attempt(context, lease, trouble))?;
    context.status.recovered(&[Step::Open]);
    Ok(started)
}

async fn attempt(
    context: &Context,
    lease: &Lease,
    trouble: Option<&Fault>,
) -> Result<Started, Fault> {
    check_schema(context).await?;
    let stored = context.state.load(&context.config.name).await?;
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
    let binding = context.state.binding(&context.config.name).await?;
    let walk = context.state.open_walk(&context.config.name).await?;
    let walks = walk.as_ref().is_some_and(|walk| !walk.is_snapshot());
    let dropped = trouble.is_some_and(|fault| fault.code == Code::SourceDropped)
        || stored.halt_code.as_deref() == Some(Code::SourceDropped.name());
    let here = look(context, &stored, binding.as_ref()).await?;
    let verdict = judge(binding.as_ref(), &here, &context.table, dropped, walks);
    halt_on(context, &verdict)?;
    let resync = async |reason, why: &str| {
        resync_if_allowed(context, lease, &stored, &here, reason, why).await
    };
    let position = match start {
        Start::Resume(position) => position,
        Start::New | Start::Refused(_) if !here.table.holds_rows => {
            return first_snapshot(context, lease, &here).await;
        }
        Start::New | Start::Refused(_) => {
            let why = "no position is stored for this stream, though its table holds rows";
            return resync(Reason::PositionMissing, why).await;
        }
        Start::Lost(reason, why) => return resync(reason, &why).await,
    };
    if verdict == BindingVerdict::TableFresh {
        return first_snapshot(context, lease, &here).await;
    }
    if let Some((reason, why)) = unusable(&verdict, trouble, walk.as_ref(), &here) {
        return resync(reason, why).await;
    }
    let was_never_bound = binding.is_none() && walk.is_none();
    if was_never_bound && !here.table.holds_rows && holds_documents(context).await? {
        // The first release did not bind its positions.
        let why = "the table is empty, and the collection is not";
        return resync(Reason::TableReplaced, why).await;
    }
    if verdict == BindingVerdict::Known {
        remember(context, lease, &here, binding.as_ref()).await?;
    }
    taken_up(context, position, stored.revision, None).await
}

/// Why a stored position that can be read cannot be gone on from: what it speaks for is not there
/// any more, the source refused it, or the walk that is open is of another collection.
fn unusable<'a>(
    verdict: &'a BindingVerdict,
    trouble: Option<&'a Fault>,
    walk: Option<&WalkRow>,
    here: &Here,
) -> Option<(Reason, &'a str)> {
    match verdict {
        BindingVerdict::Recreated(why) => return Some((Reason::CollectionRecreated, why)),
        BindingVerdict::TableReplaced(why) => return Some((Reason::TableReplaced, why)),
        _ => {}
    }
    match trouble {
        Some(fault) if fault.code == Code::SourceDropped => {
            return Some((Reason::CollectionRecreated, &fault.message));
        }
        Some(fault) if fault.class == Class::HistoryLost => {
            return Some((Reason::HistoryLost, &fault.message));
        }
        _ => {}
    }
    let walked = walk.and_then(|walk| walk.collection_uuid).zip(here.found.uuid());
    let why = "the collection that was walked is another one now";
    walked
        .is_some_and(|(walked, found)| walked != found)
        .then_some((Reason::CollectionRecreated, why))
}

async fn holds_documents(context: &Context) -> Result<bool, Fault> {
    Ok(context.source.estimate(&context.config.collection).await? > 0)
}

/// Goes on from a position, with the walk that has not ended, if there is one.
async fn taken_up(
    context: &Context,
    position: Position,
    revision: i64,
    change_stream: Option<ChangeStream>,
) -> Result<Started, Fault> {
    let walk = context.state.open_walk(&context.config.name).await?;
    let happened = match &walk {
        None => Happened::Resumed,
        Some(walk) if walk.is_snapshot() => Happened::SnapshotUnderWay,
        Some(_) => Happened::ResyncUnderWay,
    };
    let phase = Phase::Resuming.next(happened).unwrap_or(Phase::Streaming);
    Ok(Started { position, revision, change_stream, walk, phase })
}

/// What the stream needs of the database is there: tables of a format this release knows, and its
/// own table, which is made or widened once a process if that is allowed; somebody may change it
/// later. Every statement is prepared against the live schema before the first event.
async fn check_schema(context: &Context) -> Result<(), Fault> {
    let (target, table, columns) = (&context.target, &context.table, &context.config.columns);
    let mut connection = target.connect().await?;
    context.state.standing(&mut connection).await?;
    if context.settings.migrate.automatic && !context.widened.load(Ordering::Relaxed) {
        context.state.refuse_table(&mut connection, table).await?;
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

/// A stream never followed before.
async fn first_snapshot(context: &Context, lease: &Lease, here: &Here) -> Result<Started, Fault> {
    begin_walk(context, lease, here, Reason::FirstSnapshot, "first snapshot", None).await
}

/// A stream whose position is unusable: a resync, if it is allowed without a person; else the
/// stream halts.
async fn resync_if_allowed(
    context: &Context,
    lease: &Lease,
    stored: &Stored,
    here: &Here,
    reason: Reason,
    why: &str,
) -> Result<Started, Fault> {
    let settings = &context.settings.resync;
    let stream = &context.config.name;
    let halt = |message: String| {
        let hint = "look into why; then `tidemark resync STREAM --reason TEXT --execute` repairs \
                    this stream";
        let code = if reason == Reason::CollectionRecreated {
            Code::SourceDropped
        } else {
            Code::HistoryLost
        };
        Err(Fault::new(Class::Halt, code, message, hint))
    };
    if !settings.automatic {
        return halt(format!("{why}; resync.automatic is off"));
    }
    let today = if reason.is_counted() { context.state.automatic_today(stream).await? } else { 0 };
    if reason.is_counted() && today >= settings.automatic_per_day_max {
        return halt(format!(
            "{why}; {today} automatic resyncs in 24 hours are all that \
             resync.automatic_per_day_max allows"
        ));
    }
    tracing::error!(
        stream,
        reason = reason.name(),
        "position unusable, the stream is healed by a resync: {why}"
    );
    begin_walk(context, lease, here, reason, why, blind_from(stored)).await
}

/// Asks the source for a position, and makes it durable together with the walk's row.
async fn begin_walk(
    context: &Context,
    lease: &Lease,
    here: &Here,
    reason: Reason,
    why: &str,
    blind_from: Option<DateTime<Utc>>,
) -> Result<Started, Fault> {
    let (position, change_stream) = position_now(context).await?;
    let estimated = context.source.estimate(&context.config.collection).await.ok();
    let beginning = Beginning {
        reason,
        why,
        position: Some(&position),
        start_time: position.cluster_time,
        blind_from,
        documents_estimated: estimated,
        bound: here.bound(context),
        duration_max: context.settings.resync.duration_max,
        source: &context.namespace.to_string(),
        options: &context.fingerprint(),
    };
    let before = context.state.open_walk(&context.config.name).await?;
    let revision = context.state.begin_walk(lease, &beginning).await?;
    if let Some(before) = before {
        context.status.walk_ended(before.reason(), ResyncState::Failed);
    }
    taken_up(context, position, revision, Some(change_stream)).await
}

/// How many replies a first token is waited for, where the server gives none with an empty reply.
const REPLIES_MAX: usize = 60;

/// A position the source gives now, and the change stream that goes on from it. Where the server
/// gives no token with an empty reply, that of a heartbeat is waited for.
pub async fn position_now(context: &Context) -> Result<(Position, ChangeStream), Fault> {
    let options = context.change_stream_options();
    let mut change_stream = context.source.open(&options, None).await?;
    for _ in 0..if options.heartbeat.is_some() { REPLIES_MAX } else { 1 } {
        let reply = change_stream.next().await?;
        if let Some(token) = reply.token.clone() {
            return Ok((
                Position::of(token, reply.operation_time.unwrap_or(ClusterTime::default())),
                change_stream,
            ));
        }
    }
    let hint = "the server sends no post-batch resume token: set source.heartbeat_collection, so \
                that idle streams move";
    Err(Fault::new(
        Class::Halt,
        Code::SourceMisconfigured,
        "the source gave no first position",
        hint,
    ))
}

/// The last that is known of the stream: its position's time, else when its row was last written.
pub fn blind_from(stored: &Stored) -> Option<DateTime<Utc>> {
    let at = stored.cluster_time.map(|time| ClusterTime::from_sql(time).at());
    at.or_else(|| (stored.revision > 0).then_some(stored.updated_at))
}
