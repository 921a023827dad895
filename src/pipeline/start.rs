//! How a group begins: from its stored position; or, where there is none or it cannot be used, with
//! a new position and then walks, so that nothing falls between the two. What is found of each of
//! its streams decides whether it goes on, is walked, or is parked.

mod begins;
mod decide;
mod making;
mod table_check;

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use self::begins::Begins;
use self::decide::{Decision, Known, decide};
use self::making::Making;
use super::binding::{Here, SourceNow, look_at_group};
use super::context::{Context, GroupContext, retry};
use crate::error::{Class, Code, Fault};
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, Position};
use crate::model::reason::Reason;
use crate::model::step::Step;
use crate::source::ChangeStream;
use crate::state::{Lease, OwnPosition, Start, Stored, StreamRow, WalkRow};

pub use self::begins::blind_from;
pub(super) use self::decide::allowed;
pub(super) use self::table_check::see_to;

/// A group ready to be followed.
#[derive(Debug)]
pub struct Started {
    pub position: Position,
    /// The checkpoint's, when position and walks were read.
    pub revision: i64,
    /// The open change stream, if opening it told the first position.
    pub change_stream: Option<ChangeStream>,
    /// Walks that have not ended, each with its stream's place.
    pub walks: Vec<(usize, WalkRow)>,
    /// Streams that the group goes on without, and why.
    pub parked: Vec<(usize, Fault)>,
    /// By stream: its rows may be of any time up to this one.
    pub ahead: Vec<ClusterTime>,
    /// The database says that the group is halted.
    pub was_halted: bool,
}

/// Takes up the group, trying again for as long as the trouble is the world's. `trouble` is what
/// ended the pipeline before, if it is the position or the collection that is at fault.
pub async fn start(
    group: &GroupContext,
    lease: &Lease,
    trouble: Option<&Fault>,
) -> Result<Started, Fault> {
    group.status.entered(Phase::Resuming);
    let started = retry!(group, Step::Open, attempt(group, lease, trouble))?;
    group.status.recovered(&[Step::Open]);
    Ok(started)
}

async fn attempt(
    group: &GroupContext,
    lease: &Lease,
    trouble: Option<&Fault>,
) -> Result<Started, Fault> {
    let mut connection = group.target.connect().await?;
    group.state.standing(&mut connection).await?;
    let stored = group.state.load(&group.name).await?;
    let stored = stored.ok_or_else(|| Fault::bug("a lease without a checkpoint row"))?;
    let begins = begins(group, &stored, trouble).await?;
    let rows: HashMap<String, StreamRow> =
        group.state.streams().await?.into_iter().map(|row| (row.stream.clone(), row)).collect();
    let rows = if needs_enrolment(group, &rows) {
        group.state.take_into(lease, group.source.database_name(), &group.members()).await?;
        let rows = group.state.streams().await?;
        rows.into_iter().map(|row| (row.stream.clone(), row)).collect()
    } else {
        rows
    };
    let walks = group.state.open_walks(&group.names()).await?;
    let place = look_at_group(group, &stored, &rows).await?;
    let now = group.source.now().await?;
    let mut decisions = Vec::with_capacity(group.streams.len());
    for context in group.streams.iter() {
        let walk = walks.iter().find(|walk| walk.stream == context.config.name);
        let row = rows.get(&context.config.name);
        let known = Known { row, walk, begins: &begins, trouble };
        let (here, decision) = one(group, context, &mut connection, &place, &known).await?;
        decisions.push((here, decision));
    }
    crate::postgres::close(connection).await;
    let leaving = leaving(group, &rows, &begins);
    // The one stream of a group has no neighbour whose position is to be kept.
    let begins_anew = !group.parks() && decisions.iter().any(|(_, decision)| decision.repairs());
    let new = if begins.stored.is_none() || begins_anew {
        Some(position_now(group).await?)
    } else {
        None
    };
    let goes_on_from = match (&new, &begins.stored) {
        (Some((position, _)), _) | (None, Some(position)) => position.clone(),
        (None, None) => return Err(Fault::bug("a group without a position")),
    };
    let making = Making {
        group,
        stored: &stored,
        begins: &begins,
        place: &place,
        rows: &rows,
        position: &goes_on_from,
        is_new: new.is_some() || !begins.own.is_empty(),
        now,
    };
    let revision = making.change(lease, &decisions, &walks, &leaving).await?;
    let parked = decisions.into_iter().enumerate().filter_map(|(stream, (_, decision))| {
        if let Decision::Park(fault) = decision { Some((stream, fault)) } else { None }
    });
    let parked: Vec<(usize, Fault)> = parked.collect();
    let revision = revision.unwrap_or(stored.revision);
    let started = taken_up(group, goes_on_from, revision, new, parked).await?;
    Ok(Started { was_halted: stored.halt_code.is_some(), ..started })
}

/// What the stored position is worth.
async fn begins(
    group: &GroupContext,
    stored: &Stored,
    trouble: Option<&Fault>,
) -> Result<Begins, Fault> {
    let lost = |reason, why: &str| Begins {
        stored: None,
        lost: Some((reason, why.to_owned())),
        own: Vec::new(),
    };
    match stored.start(group.source.database_name(), &group.fingerprint()) {
        Start::Refused(version) => {
            let message =
                format!("the checkpoint was written by a newer release (format {version})");
            let hint = "run that release, or a later one";
            Err(Fault::new(Class::Halt, Code::TargetSchemaMismatch, message, hint))
        }
        Start::Lost(reason, why) => Ok(lost(reason, &why)),
        Start::Resume(position) => Ok(match trouble {
            Some(fault) if fault.class == Class::HistoryLost => {
                lost(Reason::HistoryLost, &fault.message)
            }
            _ => Begins { stored: Some(position), lost: None, own: Vec::new() },
        }),
        Start::New => own_positions(group).await,
    }
}

/// Positions of its streams' own, which an older release left: the group begins at the oldest that
/// the source still has. The streams whose own it has not are walked.
async fn own_positions(group: &GroupContext) -> Result<Begins, Fault> {
    let mut own = group.state.own_positions(&group.names()).await?;
    let oldest_entry = if own.is_empty() { None } else { group.source.oldest_entry().await };
    let position = |own: &OwnPosition| {
        let source = group.stream(&own.stream)?.namespace.to_string();
        let position = own.usable(&source)?;
        oldest_entry.is_none_or(|oldest| position.cluster_time >= oldest).then_some(position)
    };
    own.retain(|own| own.resume_token.is_some() || own.revision > 0);
    let stored = own.iter().filter_map(position).min_by_key(|position| position.cluster_time);
    let usable: Vec<bool> = own.iter().map(|own| position(own).is_some()).collect();
    Ok(Begins { stored, lost: None, own: own.into_iter().zip(usable).collect() })
}

/// Whether a stream of it has no row, or is in no group: another one has let it go.
fn needs_enrolment(group: &GroupContext, rows: &HashMap<String, StreamRow>) -> bool {
    let is_enrolled = |name: &str| rows.get(name).is_some_and(|row| row.group.is_some());
    group.streams.iter().any(|stream| !is_enrolled(&stream.config.name))
}

/// What is found of one stream at both ends, and what is done about it.
async fn one(
    group: &GroupContext,
    context: &Context,
    connection: &mut sqlx::postgres::PgConnection,
    place: &SourceNow,
    known: &Known<'_>,
) -> Result<(Option<Here>, Decision), Fault> {
    let is_known = context.proved.load(Ordering::Relaxed)
        && known.begins.lost.is_none()
        && known.trouble.is_none()
        && known.row.is_some_and(|row| row.parked_code.is_none() && row.left_at.is_none());
    if is_known {
        return Ok((None, Decision::GoOn));
    }
    let decided = async {
        if let Some(other) = known.in_another_group(&group.name) {
            return Err(other);
        }
        table_check::see_to(context, connection).await?;
        let here = place.of(context, known.row).await?;
        let decision = decide(context, &here, known).await?;
        Ok((Some(here), decision))
    };
    match decided.await {
        Ok(both) => {
            context.proved.store(true, Ordering::Relaxed);
            Ok(both)
        }
        Err(fault) if group.parks() && is_its_own(&fault) => Ok((None, Decision::Park(fault))),
        Err(fault) => Err(fault),
    }
}

/// Whether a fault that was met on one stream is that stream's alone.
fn is_its_own(fault: &Fault) -> bool {
    fault.code == Code::TargetSlow
        || (!fault.class.may_retry()
            && !matches!(fault.class, Class::Fenced | Class::Rewound | Class::Bug)
            && !matches!(fault.code, Code::TargetFull | Code::SourceUnauthorised))
}

/// Streams of the group's rows that are not configured in it any more: these are let go. While the
/// stored position is that of an event, it may be of any collection that was ever followed here,
/// also of one that another group has taken since: all of them are let through meanwhile.
fn leaving<'r>(
    group: &GroupContext,
    rows: &'r HashMap<String, StreamRow>,
    begins: &Begins,
) -> Vec<&'r str> {
    let gone = rows.values().filter(|row| {
        row.group.as_deref() == Some(&*group.name) && group.stream(&row.stream).is_none()
    });
    let gone: Vec<&StreamRow> = gone.collect();
    let is_freed = group.is_freed.swap(false, Ordering::Relaxed);
    let is_bound = begins
        .stored
        .as_ref()
        .is_some_and(|position| !is_freed && !position.token.is_of_no_event());
    let mut collections = group.leaving.lock().unwrap_or_else(PoisonError::into_inner);
    collections.clear();
    if is_bound {
        let elsewhere = rows.values().filter(|row| {
            row.database.as_deref() == Some(group.source.database_name())
                && row
                    .collection
                    .as_deref()
                    .is_some_and(|name| group.routes.of(Some(name)).is_empty())
        });
        collections.extend(elsewhere.filter_map(|row| row.collection.clone()));
        return Vec::new();
    }
    gone.into_iter().map(|row| row.stream.as_str()).collect()
}

/// Goes on from a position, with the walks that have not ended.
async fn taken_up(
    group: &GroupContext,
    position: Position,
    revision: i64,
    new: Option<(Position, ChangeStream)>,
    parked: Vec<(usize, Fault)>,
) -> Result<Started, Fault> {
    let is_parked = |stream: usize| parked.iter().any(|(parked, _)| *parked == stream);
    let walks = group.state.open_walks(&group.names()).await?.into_iter().filter_map(|walk| {
        let stream = group.stream(&walk.stream)?.place;
        (!is_parked(stream)).then_some((stream, walk))
    });
    let walks = walks.collect();
    let rows = group.state.streams().await?;
    let ahead = group.streams.iter().map(|context| {
        let row = rows.iter().find(|row| row.stream == context.config.name);
        row.map(StreamRow::ahead_until).unwrap_or_default()
    });
    let ahead = ahead.collect();
    let change_stream = new.map(|(_, change_stream)| change_stream);
    let was_halted = false;
    Ok(Started { position, revision, change_stream, walks, parked, ahead, was_halted })
}

/// How many replies a first token is waited for, where the server gives none with an empty reply.
const REPLIES_MAX: usize = 60;

/// A position the source gives now, and the change stream that goes on from it. Where the server
/// gives no token with an empty reply, that of a heartbeat is waited for.
pub async fn position_now(group: &GroupContext) -> Result<(Position, ChangeStream), Fault> {
    let options = group.change_stream_options();
    let mut change_stream = group.source.open(&options, None).await?;
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
