//! What people ask of a stream, obeyed by whoever leads it, between two pipelines.

use super::Context;
use super::heal::{blind_from, position_now};
use super::letters;
use crate::checkpoint::{Act, Beginning, Command, Lease, Letters, Start, Stored};
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::model::reason::Reason;

/// Obeys everything that is asked. Returns how many requests that were.
///
/// # Errors
/// Fenced, or whatever either end answers; what was obeyed by then stays obeyed.
pub async fn obey(context: &Context, lease: &Lease) -> Result<usize, Fault> {
    let mut obeyed = 0;
    while let Some(command) = context.checkpoints.next_command(lease.stream()).await? {
        let result = obey_one(context, lease, &command).await?;
        tracing::info!(
            stream = lease.stream(),
            command = command.id,
            verb = command.verb,
            actor = command.actor,
            result,
            "obeyed"
        );
        obeyed += 1;
    }
    Ok(obeyed)
}

async fn obey_one(context: &Context, lease: &Lease, command: &Command) -> Result<String, Fault> {
    let why = format!("{} (asked for by {})", command.reason, command.actor);
    let id = command.arguments.get("id").and_then(serde_json::Value::as_i64).unwrap_or_default();
    let act = |act| async move { context.checkpoints.obey(lease, command.id, &command.reason, &act).await };
    match command.verb.as_str() {
        "resync" => resync(context, lease, command, &why).await,
        "resync_cancel" => {
            let walk = context.checkpoints.open_walk(lease.stream()).await?;
            let result = act(Act::Cancel { id }).await?;
            if let Some(walk) = walk.filter(|walk| walk.id == id && result == "cancelled") {
                let reason = Reason::parse(&walk.reason).unwrap_or(Reason::Requested);
                context.status.walk_ended(reason.name(), "cancelled");
            }
            Ok(result)
        }
        "resync_approve" => act(Act::Approve { id }).await,
        "checkpoint_rewind" => {
            let stored = context.checkpoints.load(lease.stream()).await?;
            match rewind_to(command, stored.as_ref()) {
                Ok(position) => act(Act::Rewind { to: &position }).await,
                Err(why) => act(Act::Refuse(why)).await,
            }
        }
        "dead_letter_retry" => {
            let mut letters = Vec::new();
            for id in ids(command) {
                let found = context.checkpoints.letters(&Letters::One(id)).await?.into_iter();
                letters.extend(found.filter(|letter| letter.stream == lease.stream() && letter.resolved_at.is_none()));
            }
            let result = letters::retry(context, lease, &letters).await?;
            act(Act::Done(result)).await
        }
        "dead_letter_discard" => act(Act::Discard { ids: &ids(command) }).await,
        other => act(Act::Refuse(format!("{other} is not known to this release"))).await,
    }
}

/// The dead letters a request names.
fn ids(command: &Command) -> Vec<i64> {
    let named = command.arguments.get("ids").and_then(serde_json::Value::as_array);
    named.into_iter().flatten().filter_map(serde_json::Value::as_i64).collect()
}

/// A resync somebody asked for: from the stored position, if it can be used, since then nothing was missed after it.
async fn resync(context: &Context, lease: &Lease, command: &Command, why: &str) -> Result<String, Fault> {
    let refuse = |why: String| async move {
        context.checkpoints.obey(lease, command.id, &command.reason, &Act::Refuse(why)).await
    };
    if let Some(open) = context.checkpoints.open_walk(lease.stream()).await? {
        return refuse(format!("resync {} is under way already", open.id)).await;
    }
    let Some(stored) = context.checkpoints.load(lease.stream()).await? else {
        return refuse("this stream was never followed".to_owned()).await;
    };
    let usable = match stored.start(&context.namespace.to_string(), &context.fingerprint()) {
        Start::Refused(version) => {
            return refuse(format!("the checkpoint is of a newer release (format {version})")).await;
        }
        // A halted stream's position may be what it halts on.
        Start::Resume(position) if stored.halt_code.is_none() => Some(position),
        Start::Resume(_) | Start::New | Start::Lost(..) => None,
    };
    let found = context.source.find_collection(&context.config.collection).await?;
    let fresh = if usable.is_none() { Some(position_now(context).await?.0) } else { None };
    let start_time = fresh.as_ref().or(usable.as_ref()).map_or(ClusterTime::default(), |p| p.cluster_time);
    let divergence = command.arguments.get("divergence").is_some();
    let beginning = Beginning {
        reason: if divergence { Reason::Divergence } else { Reason::Requested },
        why,
        position: fresh.as_ref(),
        start_time,
        blind_from: if fresh.is_some() { blind_from(&stored) } else { None },
        documents_estimated: context.source.estimate(&context.config.collection).await.ok(),
        collection_uuid: found.uuid(),
        duration_max: context.settings.resync.duration_max,
        source: &context.namespace.to_string(),
        options: &context.fingerprint(),
    };
    context.checkpoints.obey(lease, command.id, &command.reason, &Act::Begin(Box::new(beginning))).await
}

/// Only back: a position further on would skip what lies between.
fn rewind_to(command: &Command, stored: Option<&Stored>) -> Result<Position, String> {
    let field = |name| command.arguments.get(name);
    let token = field("resume_token").and_then(serde_json::Value::as_str).ok_or("the request names no token")?;
    let time = field("cluster_time").and_then(serde_json::Value::as_i64).ok_or("the request names no time")?;
    let bytes = crate::model::position::unhex(token).ok_or("the request's token is not hex")?;
    let token = ResumeToken::new(&bytes).map_err(|error| format!("the request's token is no resume token: {error}"))?;
    let position = Position { token, cluster_time: ClusterTime::from_sql(time) };
    let present = stored.and_then(|stored| stored.cluster_time).map(ClusterTime::from_sql);
    match present {
        Some(present) if position.cluster_time > present => {
            Err("that position is further on than the present one: what lies between would be skipped".to_owned())
        }
        _ => Ok(position),
    }
}
