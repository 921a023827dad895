//! How a stream begins: from its stored position, or with a first position and a first walk.

use super::{Context, Happened, Phase, wait_or_give_up};
use crate::checkpoint::{Lease, RunningWalk, Start};
use crate::error::{Class, Code, Fault};
use crate::model::position::{ClusterTime, Position};
use crate::postgres::{close, within};
use crate::resync::Place;
use crate::retry::Backoff;
use crate::source::Feed;

/// A stream ready to be followed.
#[derive(Debug)]
pub struct Started {
    pub position: Position,
    /// The feed, if opening it told the first position.
    pub feed: Option<Feed>,
    pub walk: Option<RunningWalk>,
    pub phase: Phase,
}

impl Started {
    pub fn place(walk: &RunningWalk) -> Place {
        Place::restore(walk.walk_class, walk.walk_after.clone())
    }
}

/// Takes up the stream, trying again for as long as the trouble is the world's.
pub async fn start(context: &Context, lease: &Lease) -> Result<Started, Fault> {
    context.enter(Phase::Resuming);
    let mut backoff = Backoff::new(context.settings.retry);
    loop {
        match attempt(context, lease).await {
            Ok(started) => {
                context.status.recovered();
                return Ok(started);
            }
            Err(fault) => wait_or_give_up(context, "open", &mut backoff, fault).await?,
        }
    }
}

async fn attempt(context: &Context, lease: &Lease) -> Result<Started, Fault> {
    check_schema(context).await?;
    let stored = context.checkpoints.load(&context.config.name).await?;
    let stored = stored.ok_or_else(|| Fault::bug("a lease without a checkpoint row"))?;
    match stored.start(&context.namespace.to_string(), &context.fingerprint()) {
        Start::Resume(position) => {
            let walk = context.checkpoints.running_walk(&context.config.name).await?;
            let happened = if walk.is_some() { Happened::SnapshotUnderWay } else { Happened::Resumed };
            let phase = Phase::Resuming.next(happened).unwrap_or(Phase::Streaming);
            Ok(Started { position, feed: None, walk, phase })
        }
        Start::New => first(context, lease).await,
        Start::Lost(why) => {
            let hint = "the stream's table is untouched; empty the table and delete the stream's checkpoint row to begin with a new snapshot";
            Err(Fault::new(Class::HistoryLost, Code::HistoryLost, why, hint))
        }
        Start::Refused(version) => {
            let message = format!("the checkpoint was written by a newer release (format {version})");
            Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, "run that release, or a later one"))
        }
    }
}

/// Every statement is prepared against the live schema before the first event.
async fn check_schema(context: &Context) -> Result<(), Fault> {
    let mut connection = context.target.connect().await?;
    let live = crate::apply::read_live(&mut connection, &context.target, &context.table).await?;
    let differences = live.differences(&context.table, &context.config.columns);
    if !differences.is_empty() {
        let hint = "run `tidemark migrate`; a column of another type must be altered by hand";
        return Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, differences.join("; "), hint));
    }
    for (_, statement) in context.statements.preparable() {
        let sql = sqlx::AssertSqlSafe(statement.to_string());
        let prepare = sqlx::Executor::prepare(&mut connection, sqlx::SqlSafeStr::into_sql_str(sql));
        within(context.target.deadline(), prepare).await?;
    }
    close(connection).await;
    Ok(())
}

/// A stream never followed before: first a position, then the walk, so that nothing falls between the two.
async fn first(context: &Context, lease: &Lease) -> Result<Started, Fault> {
    refuse_foreign_rows(context).await?;
    let mut feed = context.source.open(&context.feed_options(), None).await?;
    let reply = feed.next().await?;
    let no_token = || {
        let hint = "the server gives no post-batch resume token with an empty reply: MongoDB 4.0.7 or later is needed";
        Fault::new(Class::Halt, Code::SourceMisconfigured, "the source gave no first position", hint)
    };
    let token = reply.token.clone().ok_or_else(no_token)?;
    let position = Position::of(token, reply.operation_time.unwrap_or(ClusterTime::default()));
    let estimate = context.source.estimate(&context.config.collection).await.ok();
    context.checkpoints.begin_walk(lease, &position, "first_snapshot", estimate).await?;
    let walk = context.checkpoints.running_walk(&context.config.name).await?;
    Ok(Started { position, feed: Some(feed), walk, phase: Phase::Snapshotting })
}

/// Rows that no checkpoint speaks for could be stale, and a first walk would not notice.
async fn refuse_foreign_rows(context: &Context) -> Result<(), Fault> {
    let mut connection = context.target.connect().await?;
    let sql = sqlx::AssertSqlSafe(context.statements.any.to_string());
    let any = within(context.target.deadline(), sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection)).await?;
    close(connection).await;
    if !any {
        return Ok(());
    }
    let message = format!("table {} holds rows, but no position is stored for this stream", context.table);
    let hint = "empty the table to begin with a snapshot, or name another table";
    Err(Fault::new(Class::Halt, Code::ResyncHeld, message, hint))
}
