//! What people ask of a stream: the process that leads it carries it out, between two pipelines.
//!
//! A request that cannot be carried out is tried again, later and later, and ends with a reason.
//! Meanwhile the stream goes on, and the next request has its turn.

use super::binding::{BindingVerdict, foreign, judge, look};
use super::context::Context;
use super::dead_letter;
use super::start::{blind_from, position_now};
use crate::error::{Class, Fault};
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::model::shown::shown;
use crate::source::Found;
use crate::state::{
    Act, Beginning, Command, Lease, Letters, Outcome, Start, Stored, Verb, WalkRow,
};
use crate::{failpoint, retry};

/// Tries of one request, if `retry.attempts_max` does not say fewer: some minutes with the pauses
/// between them.
const TRIES_MAX: u64 = 10;

/// How a request ended, and what is said of it.
type Answered = (Outcome, String);

/// Carries out every request whose turn it is. What was carried out before an error stays so; what
/// came of one request is written down and is no error.
pub async fn obey(context: &Context, lease: &Lease) -> Result<(), Fault> {
    let pause = context.settings.retry.delay_max;
    while let Some(command) = context.state.take_command(lease, pause).await? {
        failpoint::hit("obey.taken");
        let tries = u64::from(command.attempts.unsigned_abs());
        let obeyed = if tries > tries_max(context) {
            // It never came to an answer: processes ended by it.
            let act = Act::Fail(format!("the process ended at each of {} tries", tries - 1));
            context.state.obey(lease, command.id, &command.reason, &act).await
        } else {
            obey_one(context, lease, &command).await
        };
        let ended = match obeyed {
            Ok(ended) => Some(ended),
            Err(fault) if matches!(fault.class, Class::Fenced | Class::Rewound) => {
                return Err(fault);
            }
            Err(fault) => not_obeyed(context, lease, &command, &fault).await?,
        };
        let Some((outcome, result)) = ended else { continue };
        tracing::info!(
            stream = lease.stream(),
            command = command.id,
            verb = shown(&command.verb),
            actor = shown(&command.asked_by()),
            outcome = outcome.name(),
            result = shown(&result),
            "request ended"
        );
    }
    Ok(())
}

fn tries_max(context: &Context) -> u64 {
    match context.settings.retry.attempts_max {
        0 => TRIES_MAX,
        attempts_max => attempts_max.min(TRIES_MAX),
    }
}

/// What becomes of a request that could not be carried out: it waits for its next turn, or ends as
/// failed.
async fn not_obeyed(
    context: &Context,
    lease: &Lease,
    command: &Command,
    fault: &Fault,
) -> Result<Option<Answered>, Fault> {
    let (settings, tries) = (context.settings.retry, u64::from(command.attempts.unsigned_abs()));
    let tries_max = tries_max(context);
    let why = format!("failed after {tries} of {tries_max} tries: {fault}");
    if fault.class.may_retry() && tries < tries_max {
        let delay = retry::delay(settings, tries, fastrand::f64());
        tracing::warn!(
            stream = lease.stream(),
            command = command.id,
            tries,
            "request not obeyed yet: {fault}"
        );
        context.state.put_off_command(command.id, delay, &why).await?;
        return Ok(None);
    }
    let act = Act::Fail(why);
    context.state.obey(lease, command.id, &command.reason, &act).await.map(Some)
}

async fn obey_one(context: &Context, lease: &Lease, command: &Command) -> Result<Answered, Fault> {
    let why = format!("{} (asked for by {})", command.reason, command.asked_by());
    let id = command.arguments.get("id").and_then(serde_json::Value::as_i64).unwrap_or_default();
    let act =
        |act| async move { context.state.obey(lease, command.id, &command.reason, &act).await };
    match Verb::parse(&command.verb) {
        Some(Verb::Resync) => resync(context, lease, command, &why).await,
        Some(Verb::ResyncCancel) => {
            let walk = context.state.open_walk(lease.stream()).await?;
            let ended = act(Act::Cancel { id }).await?;
            if let Some(walk) = walk.filter(|walk| walk.id == id && ended.0 == Outcome::Done) {
                context.status.walk_ended(walk.reason(), ResyncState::Cancelled);
            }
            Ok(ended)
        }
        Some(Verb::ResyncApprove) => act(Act::Approve { id }).await,
        Some(Verb::CheckpointRewind) => {
            let stored = context.state.load(lease.stream()).await?;
            match rewind_to(command, stored.as_ref()) {
                Ok(position) => act(Act::Rewind { to: &position }).await,
                Err(why) => act(Act::Refuse(why)).await,
            }
        }
        Some(Verb::DeadLetterRetry) => retry(context, lease, command).await,
        Some(Verb::DeadLetterAccept) => {
            let count = command.arguments.get("count").and_then(serde_json::Value::as_i64);
            act(Act::Accept { number: count.unwrap_or_default() }).await
        }
        Some(Verb::SourceAdopt) => adopt(context, lease, command, &why).await,
        Some(Verb::DeadLetterDiscard) => act(Act::Discard { ids: &ids(command) }).await,
        // The others are no stream's.
        Some(Verb::Purge | Verb::IncidentAck) | None => {
            act(Act::Refuse(format!("{} is not known to this release", command.verb))).await
        }
    }
}

/// Documents are read as they are now, so the source must be the one the table is of.
async fn retry(context: &Context, lease: &Lease, command: &Command) -> Result<Answered, Fault> {
    let act =
        |act| async move { context.state.obey(lease, command.id, &command.reason, &act).await };
    let Some(stored) = context.state.load(lease.stream()).await? else {
        return act(Act::Refuse("this stream was never followed".to_owned())).await;
    };
    let binding = context.state.binding(lease.stream()).await?;
    let here = look(context, &stored, binding.as_ref()).await?;
    match judge(binding.as_ref(), &here, &context.table, false, false) {
        BindingVerdict::Foreign(why) => return act(Act::Refuse(foreign_source(&why))).await,
        BindingVerdict::Dropped
        | BindingVerdict::Unfollowable(_)
        | BindingVerdict::Recreated(_) => {
            let why = format!("{} is not the collection the table is of", context.namespace);
            return act(Act::Refuse(format!("{why}: a resync repairs it once it is there"))).await;
        }
        BindingVerdict::Same
        | BindingVerdict::Known
        | BindingVerdict::TableFresh
        | BindingVerdict::TableReplaced(_) => {}
    }
    let mut letters = Vec::new();
    for id in ids(command) {
        let found = context.state.letters(&Letters::One(id)).await?.into_iter();
        letters.extend(
            found.filter(|letter| letter.stream == lease.stream() && letter.resolved_at.is_none()),
        );
    }
    act(dead_letter::retry(context, lease, &stored, &letters).await?).await
}

fn foreign_source(why: &str) -> String {
    format!("{why}; if this source is meant, `tidemark source adopt` says so")
}

/// The dead letters a request names.
fn ids(command: &Command) -> Vec<i64> {
    let named = command.arguments.get("ids").and_then(serde_json::Value::as_array);
    named.into_iter().flatten().filter_map(serde_json::Value::as_i64).collect()
}

/// A resync somebody asked for: from the stored position, if it can be used, since then nothing was
/// missed after it.
async fn resync(
    context: &Context,
    lease: &Lease,
    command: &Command,
    why: &str,
) -> Result<Answered, Fault> {
    let refuse = |why: String| async move {
        context.state.obey(lease, command.id, &command.reason, &Act::Refuse(why)).await
    };
    let Some(stored) = context.state.load(lease.stream()).await? else {
        return refuse("this stream was never followed".to_owned()).await;
    };
    let binding = context.state.binding(lease.stream()).await?;
    let here = look(context, &stored, binding.as_ref()).await?;
    if let Some(why) = binding.as_ref().and_then(|bound| foreign(bound, &here)) {
        return refuse(foreign_source(&why)).await;
    }
    if here.found == Found::Nothing && here.table.holds_rows {
        return refuse(format!(
            "there is no collection {}: nothing can be concluded from it",
            context.namespace
        ))
        .await;
    }
    // A halted stream asks for one: what is still open ends as failed, and its report is carried
    // on.
    if stored.halt_code.is_none()
        && let Some(open) = context.state.open_walk(lease.stream()).await?
    {
        return refuse(under_way(&open)).await;
    }
    let usable = match stored.start(&context.namespace.to_string(), &context.fingerprint()) {
        Start::Refused(version) => {
            return refuse(format!("the checkpoint is of a newer release (format {version})"))
                .await;
        }
        // A halted stream's position may be what it halts on.
        Start::Resume(position) if stored.halt_code.is_none() => Some(position),
        Start::Resume(_) | Start::New | Start::Lost(..) => None,
    };
    let fresh = if usable.is_none() { Some(position_now(context).await?.0) } else { None };
    let start_time =
        fresh.as_ref().or(usable.as_ref()).map_or(ClusterTime::default(), |p| p.cluster_time);
    let divergence = command.arguments.get("divergence").is_some();
    let beginning = Beginning {
        reason: if divergence { Reason::Divergence } else { Reason::Requested },
        why,
        position: fresh.as_ref(),
        start_time,
        blind_from: if fresh.is_some() { blind_from(&stored) } else { None },
        documents_estimated: context.source.estimate(&context.config.collection).await.ok(),
        bound: here.bound(context),
        duration_max: context.settings.resync.duration_max,
        source: &context.namespace.to_string(),
        options: &context.fingerprint(),
    };
    context.state.obey(lease, command.id, &command.reason, &Act::Begin(Box::new(beginning))).await
}

fn under_way(open: &WalkRow) -> String {
    let way_on = match open.state() {
        _ if open.is_snapshot() => {
            "it is the first snapshot, which repairs whatever there is".to_owned()
        }
        ResyncState::Held => format!(
            "`tidemark resync approve {0} --execute` lets it go on, `cancel {0}` ends it",
            open.id
        ),
        _ => format!("`tidemark resync cancel {} --execute` ends it", open.id),
    };
    format!("resync {} is under way already; {way_on}", open.id)
}

/// A person says that this source is meant, and that these tables are this daemon's: a new
/// position, and a resync.
async fn adopt(
    context: &Context,
    lease: &Lease,
    command: &Command,
    why: &str,
) -> Result<Answered, Fault> {
    let act =
        |act| async move { context.state.obey(lease, command.id, &command.reason, &act).await };
    let asks = |name| command.arguments.get(name).and_then(serde_json::Value::as_str);
    let owner = context.target.owner();
    if (asks("service"), asks("environment")) != (Some(&owner.service), Some(&owner.environment)) {
        return act(Act::Refuse(format!("the stream is led by {owner}, which has not ended")))
            .await;
    }
    let Some(stored) = context.state.load(lease.stream()).await? else {
        return act(Act::Refuse("this stream was never followed".to_owned())).await;
    };
    let here = look(context, &stored, None).await?;
    if !matches!(here.found, Found::Collection(_)) {
        return act(Act::Refuse(format!(
            "there is no collection {} at this source",
            context.namespace
        )))
        .await;
    }
    let position = position_now(context).await?.0;
    // The stream is halted, or ends for this request: nobody else writes the table meanwhile.
    context.state.void_times(lease, &context.table, position.cluster_time).await?;
    let beginning = Beginning {
        reason: Reason::SourceAdopted,
        why,
        position: Some(&position),
        start_time: position.cluster_time,
        blind_from: blind_from(&stored),
        documents_estimated: context.source.estimate(&context.config.collection).await.ok(),
        bound: here.bound(context),
        duration_max: context.settings.resync.duration_max,
        source: &context.namespace.to_string(),
        options: &context.fingerprint(),
    };
    act(Act::Begin(Box::new(beginning))).await
}

/// Only back: a position further on would skip what lies between.
fn rewind_to(command: &Command, stored: Option<&Stored>) -> Result<Position, String> {
    let field = |name| command.arguments.get(name);
    let token = field("resume_token")
        .and_then(serde_json::Value::as_str)
        .ok_or("the request names no token")?;
    let time = field("cluster_time")
        .and_then(serde_json::Value::as_i64)
        .ok_or("the request names no time")?;
    let bytes = crate::model::position::unhex(token).ok_or("the request's token is not hex")?;
    let token = ResumeToken::new(&bytes)
        .map_err(|error| format!("the request's token is no resume token: {error}"))?;
    let position = Position { token, cluster_time: ClusterTime::from_sql(time) };
    let present = stored.and_then(|stored| stored.cluster_time).map(ClusterTime::from_sql);
    match present {
        Some(present) if position.cluster_time > present => Err(
            "that position is further on than the present one: what lies between would be skipped"
                .to_owned(),
        ),
        _ => Ok(position),
    }
}
