//! How a stream without a usable position gets a new one: first the position, then the walk, so
//! that nothing falls between the two.

use chrono::{DateTime, Utc};

use super::Context;
use super::binding::Here;
use super::start::{Started, taken_up};
use crate::error::{Class, Code, Fault};
use crate::model::position::{ClusterTime, Position};
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::source::ChangeStream;
use crate::state::{Beginning, Lease, Stored};

/// A stream never followed before.
pub async fn first_snapshot(
    context: &Context,
    lease: &Lease,
    here: &Here,
) -> Result<Started, Fault> {
    begin(context, lease, here, Reason::FirstSnapshot, "first snapshot", None).await
}

/// A stream whose position is unusable: a resync, if it is allowed without a person; else the
/// stream halts.
pub async fn heal(
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
    let today =
        if reason.is_counted() { context.checkpoints.automatic_today(stream).await? } else { 0 };
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
    begin(context, lease, here, reason, why, blind_from(stored)).await
}

/// Asks the source for a position, and makes it durable together with the walk's row.
async fn begin(
    context: &Context,
    lease: &Lease,
    here: &Here,
    reason: Reason,
    why: &str,
    blind_from: Option<DateTime<Utc>>,
) -> Result<Started, Fault> {
    let (position, feed) = position_now(context).await?;
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
    let before = context.checkpoints.open_walk(&context.config.name).await?;
    let revision = context.checkpoints.begin_walk(lease, &beginning).await?;
    if let Some(before) = before {
        context.status.walk_ended(before.reason(), ResyncState::Failed);
    }
    taken_up(context, position, revision, Some(feed)).await
}

/// How many replies a first token is waited for, where the server gives none with an empty reply.
const REPLIES_MAX: usize = 60;

/// A position the source gives now, and the feed that goes on from it. Where the server gives no
/// token with an empty reply, that of a heartbeat is waited for.
pub(super) async fn position_now(context: &Context) -> Result<(Position, ChangeStream), Fault> {
    let options = context.feed_options();
    let mut feed = context.source.open(&options, None).await?;
    for _ in 0..if options.heartbeat.is_some() { REPLIES_MAX } else { 1 } {
        let reply = feed.next().await?;
        if let Some(token) = reply.token.clone() {
            return Ok((
                Position::of(token, reply.operation_time.unwrap_or(ClusterTime::default())),
                feed,
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
pub(super) fn blind_from(stored: &Stored) -> Option<DateTime<Utc>> {
    let at = stored.cluster_time.map(|time| ClusterTime::from_sql(time).at());
    at.or_else(|| (stored.revision > 0).then_some(stored.updated_at))
}
