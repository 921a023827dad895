//! How a group begins: from its stored position; or, where there is none or it cannot be used, with
//! a new position and then walks, so that nothing falls between the two. What is found of each of
//! its streams decides whether it goes on, is walked, or is parked.

mod begins;
mod decide;
mod elsewhere;
mod hide;
mod making;
mod table_check;

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use self::begins::Begins;
use self::decide::{Decision, Known, decide};
use self::elsewhere::{called_before, in_its_place};
use self::making::Making;
use super::binding::{Here, SourceNow, look_at_group};
use super::context::{Context, GroupContext, retry};
use crate::error::{Class, Code, Fault};
use crate::model::phase::Phase;
use crate::model::position::{ClusterTime, Position};
use crate::model::step::Step;
use crate::source::ChangeStream;
use crate::state::{Configured, Lease, Pause, StreamRow, WalkRow};

pub use self::begins::blind_from;
pub(super) use self::begins::is_of_this_source;
pub(super) use self::decide::allowed;
pub(super) use self::elsewhere::{elsewhere, held_table, is_let_go};
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
    pub left_out: LeftOut,
    /// By stream: its rows may be of any time up to this one.
    pub ahead: Vec<ClusterTime>,
    /// The database says that the group is halted.
    pub was_halted: bool,
}

/// Streams that the group goes on without.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// Those that cannot be followed, and why.
    pub parked: Vec<(usize, Fault)>,
    /// Those that a person told to stop for a while.
    pub paused: Vec<(usize, Pause)>,
}

impl LeftOut {
    fn of(decisions: Vec<(Option<Here>, Decision)>) -> Self {
        let mut left_out = Self::default();
        for (stream, (_, decision)) in decisions.into_iter().enumerate() {
            match decision {
                Decision::Park(fault) => left_out.parked.push((stream, fault)),
                Decision::Pause(pause) => left_out.paused.push((stream, pause)),
                Decision::GoOn | Decision::Bind | Decision::Walk { .. } => {}
            }
        }
        left_out
    }

    fn has(&self, stream: usize) -> bool {
        self.parked.iter().any(|(parked, _)| *parked == stream)
            || self.paused.iter().any(|(paused, _)| *paused == stream)
    }
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
    let rows = enrolled(group, lease).await?;
    hide::hide_in_letters(group).await?;
    let walks = group.state.open_walks(&group.names()).await?;
    let begins = Begins::of(group, &stored, trouble, !walks.is_empty()).await?;
    let place = look_at_group(group, &stored, &rows).await?;
    let now = group.source.now().await?;
    let has_others = rows.values().any(|row| row.is_elsewhere(&group.name));
    let mut decisions = Vec::with_capacity(group.streams.len());
    for context in group.streams.iter() {
        let walk = walks.iter().find(|walk| walk.stream == context.config.name);
        let row = rows.get(&context.config.name);
        let known = Known {
            row,
            before: called_before(context, row, rows.values()),
            in_its_place: in_its_place(context, rows.values()).next(),
            has_others,
            walk,
            begins: &begins,
            trouble,
            now,
        };
        let (here, decision) = one(group, context, &mut connection, &place, &known).await?;
        decisions.push((here, decision));
    }
    crate::postgres::close(connection).await;
    let_through(group, &rows, &begins);
    let leaving = leaving(group, &rows);
    // The one stream of a group has no neighbour whose position is to be kept.
    let begins_anew = !group.parks() && decisions.iter().any(|(_, decision)| decision.repairs());
    let new = if begins.position.is_none() || begins_anew {
        Some(position_now(group).await?)
    } else {
        None
    };
    let goes_on_from = match (&new, &begins.position) {
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
        is_new: new.is_some() || begins.is_own,
        now,
    };
    let revision = making.change(lease, &decisions, &walks, &leaving).await?;
    let left_out = LeftOut::of(decisions);
    let revision = revision.unwrap_or(stored.revision);
    let started = taken_up(group, goes_on_from, revision, new, left_out).await?;
    Ok(Started { was_halted: stored.halt_code.is_some(), ..started })
}

/// The rows of all streams, those of the group taken into it as far as others have let them go.
async fn enrolled(
    group: &GroupContext,
    lease: &Lease,
) -> Result<HashMap<String, StreamRow>, Fault> {
    let read = async || -> Result<HashMap<String, StreamRow>, Fault> {
        let rows = group.state.streams().await?.into_iter();
        Ok(rows.map(|row| (row.stream.clone(), row)).collect())
    };
    let rows = read().await?;
    if !needs_enrolment(group, &rows) {
        return Ok(rows);
    }
    let (members, names) = (group.members(), group.all_names());
    let configured = Configured { members: &members, names: &names };
    group.state.take_into(lease, group.source.database_name(), &configured).await?;
    read().await
}

/// Whether a stream of it has no row, or is not in this group yet, itself or what was in its place
/// before: another group may have let it go, or be led by nobody.
fn needs_enrolment(group: &GroupContext, rows: &HashMap<String, StreamRow>) -> bool {
    group.streams.iter().any(|context| {
        let mut before = in_its_place(context, rows.values());
        !is_in(group, rows.get(&context.config.name)) || before.any(|row| row.group.is_some())
    })
}

fn is_in(group: &GroupContext, row: Option<&StreamRow>) -> bool {
    row.is_some_and(|row| row.group.as_deref() == Some(&*group.name))
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
        && is_in(group, known.row)
        && known.row.is_some_and(|row| row.parked_code.is_none() && row.left_at.is_none());
    if is_known {
        return Ok((None, Decision::GoOn));
    }
    let decided = async {
        // Left out also where it is alone: it comes by itself, and its group is ready for it then.
        if let Some(other) = known.in_another_group(&group.name) {
            return Ok((None, Decision::Park(other)));
        }
        if let Some(pause) = known.row.and_then(StreamRow::pause_in_force) {
            return Ok((None, Decision::Pause(pause)));
        }
        if known.has_others
            && let Some(held) = held_table(context, connection).await?
        {
            return Ok((None, Decision::Park(held)));
        }
        known.is_this_source(&context.config.name)?;
        let mut row = known.row.cloned();
        if table_check::see_to(context, connection).await? {
            row = context.state.stream_row(&context.config.name).await?;
        }
        let known = Known { row: row.as_ref(), ..*known };
        let here = place.of(context, known.row).await?;
        let decision = decide(context, &here, &known).await?;
        if known.begins_versions(context.mapping.digest(), &decision) {
            let until = known.applied_until();
            table_check::end_versions(context, connection, until).await?;
        }
        Ok((Some(here), decision))
    };
    match decided.await {
        Ok(both) => {
            let is_looked_at = !matches!(both.1, Decision::Pause(_) | Decision::Park(_));
            context.proved.store(is_looked_at, Ordering::Relaxed);
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

/// Streams of the group's rows that are not configured in it any more: these are let go, at the
/// position that the group begins at, since it applies nothing of theirs from there on.
fn leaving<'r>(group: &GroupContext, rows: &'r HashMap<String, StreamRow>) -> Vec<&'r str> {
    let gone = rows.values().filter(|row| {
        row.group.as_deref() == Some(&*group.name) && group.stream(&row.stream).is_none()
    });
    gone.map(|row| row.stream.as_str()).collect()
}

/// While the position is that of an event, it may be of any collection that was ever followed here
/// or by the group that it comes from: all of them are let through meanwhile.
fn let_through(group: &GroupContext, rows: &HashMap<String, StreamRow>, begins: &Begins) {
    let is_freed = group.is_freed.swap(false, Ordering::Relaxed) && !begins.is_own;
    let is_bound = begins
        .position
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
    }
}

/// Goes on from a position, with the walks that have not ended.
async fn taken_up(
    group: &GroupContext,
    position: Position,
    revision: i64,
    new: Option<(Position, ChangeStream)>,
    left_out: LeftOut,
) -> Result<Started, Fault> {
    let walks = group.state.open_walks(&group.names()).await?;
    leave_out(group, &walks).await?;
    let walks = walks.into_iter().filter_map(|walk| {
        let stream = group.stream(&walk.stream)?.place;
        (!left_out.has(stream)).then_some((stream, walk))
    });
    let walks = walks.collect();
    let rows = group.state.streams().await?;
    let ahead = group.streams.iter().map(|context| {
        let row = rows.iter().find(|row| row.stream == context.config.name);
        row.map(StreamRow::ahead_until).unwrap_or_default()
    });
    let ahead = ahead.collect();
    let letters = group.state.open_letters().await?;
    for context in group.streams.iter() {
        context.status.lacks(letters.iter().any(|(stream, _)| *stream == context.config.name));
    }
    let change_stream = new.map(|(_, change_stream)| change_stream);
    let was_halted = false;
    Ok(Started { position, revision, change_stream, walks, left_out, ahead, was_halted })
}

/// Each stream leaves out what happened before its collection was looked at and walked, as far as
/// the group has still to come to it: it may be of another collection, of which no event tells any
/// more what became of it. A first snapshot ends in no sweep, so that counts when it is completed,
/// too.
async fn leave_out(group: &GroupContext, walks: &[WalkRow]) -> Result<(), Fault> {
    let filled = group.state.filled_at(&group.names()).await?;
    for context in group.streams.iter() {
        let name = &context.config.name;
        let filled = filled.get(name).copied().unwrap_or_default();
        let walk = walks.iter().find(|walk| walk.stream == *name && !walk.is_snapshot());
        let found = |walk: &WalkRow| walk.start_time().before();
        let changes = walk.filter(|walk| walk.reason().makes_up()).map(found);
        let stops = walk.filter(|walk| !walk.reason().is_asked_for()).map(found);
        let (changes, stops) = (changes.unwrap_or_default(), stops.unwrap_or_default());
        group.routes.leave_out(context.place, filled.max(changes), filled.max(stops));
    }
    Ok(())
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
            let fallback = reply.operation_time.unwrap_or_default();
            return Ok((Position::of_opening(token, fallback), change_stream));
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
