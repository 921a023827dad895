//! Where processes have died, a stream goes in small steps, each written down before it is taken:
//! so what they died of is found, and set aside unread. No document makes a crash loop.
//!
//! Two deaths at one place: steps of fifty. The step a process dies in is gone over one by one.
//! What a process dies of twice more, alone, is set aside by its key; before the second time
//! nothing is in hand for a while. A document kills only whoever has it in hand: a process that
//! ends in that while was ended by something else, and what the one before it died of is under no
//! suspicion any more. So kills from outside, however fast one after the other, cost nothing but
//! slower steps.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::context::{GroupContext, retry};
use crate::apply::DeadLetter;
use crate::error::Fault;
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::position::{ClusterTime, Position};
use crate::model::redaction::Evidence;
use crate::model::step::Step;
use crate::state::{Lease, Mark, Road, StateTables, TakenInHand, WalkRow};

/// So many deaths at one place are no accident.
const DEATHS_MIN: i32 = 2;

/// Events or documents in a step.
const STEP: usize = 50;

/// So many deaths with one thing alone in hand, and it is not taken in hand again.
const DEATHS_ALONE: i32 = 2;

/// How long nothing is in hand before what a process died of alone is taken again. Kills that come
/// faster than this come in that while, and suspect nothing; kills that come slower meet no stream
/// at the same place twice, since it is past one within milliseconds.
const REST: Duration = Duration::from_secs(3);

/// After so many things without a death, care ends: no process had read further when it died. On
/// the live road it ends at the source's present of its beginning, if that comes first.
const THINGS: usize = 50_000;

/// A process takes one thing in hand at a time, whichever stream it is of: else one would be blamed
/// for another's.
static TURN: Mutex<()> = Mutex::const_new(());

/// Another stream may wait for its database meanwhile: then this one goes on without writing down
/// what it does.
const PATIENCE: Duration = Duration::from_secs(10);

/// Care to be taken on one road: the live one of a group, or that of one walk.
#[derive(Debug, Clone)]
pub(super) struct Care {
    state: StateTables,
    lease: Lease,
    /// The stream whose walk it is of, or the group.
    whose: String,
    road: Road,
    /// So many of the next things are taken one by one.
    singly: usize,
    left: usize,
    /// What processes died of at the place with just it in hand, and how many did.
    suspect: Option<(Mark, i32)>,
    has_rested: bool,
}

/// Something was taken in hand; nothing else is, while this lives.
#[derive(Debug)]
pub(super) struct InHand {
    _turn: Option<MutexGuard<'static, ()>>,
    /// Processes died of just this: it is to be set aside.
    pub is_doomed: bool,
}

/// The care to be taken on all roads.
#[derive(Debug, Default)]
pub(super) struct Cares {
    pub live: Option<Care>,
    /// By walk.
    pub walks: HashMap<i64, Care>,
}

impl Cares {
    /// Notes where a pipeline begins, over as many tries as it takes. Of walks that wait for their
    /// turn nothing is in hand yet.
    pub async fn of(
        group: &GroupContext,
        lease: &Lease,
        run: Uuid,
        position: &Position,
        walks: &[(usize, WalkRow)],
    ) -> Result<Self, Fault> {
        let attempt = || async {
            let at = |on, place: Vec<u8>| async move {
                Care::at(&group.state, lease, run, on, &place).await
            };
            let live = at((&*group.name, Road::Live), position.token.bytes().to_vec()).await?;
            let mut cares = Self { live, walks: HashMap::new() };
            let mut next: Vec<&WalkRow> = walks.iter().map(|(_, walk)| walk).collect();
            next.sort_by_key(|walk| (walk.walked_since.is_none(), walk.id));
            for walk in next.into_iter().take(group.settings.resync.concurrent) {
                let place = walk_place(walk.id, walk.walk_class, walk.walk_after.as_deref());
                if let Some(care) = at((&walk.stream, Road::Walk), place).await? {
                    cares.walks.insert(walk.id, care);
                }
            }
            Ok(cares)
        };
        retry!(group, Step::Open, attempt())
    }
}

/// The place of a walk, as care knows it.
pub(super) fn walk_place(id: i64, class: i32, after: Option<&[u8]>) -> Vec<u8> {
    [&id.to_be_bytes()[..], &class.to_be_bytes(), after.unwrap_or_default()].concat()
}

impl Care {
    /// Notes that a pipeline begins at a place. `None` if too few processes have died there.
    async fn at(
        state: &StateTables,
        lease: &Lease,
        run: Uuid,
        (whose, road): (&str, Road),
        place: &[u8],
    ) -> Result<Option<Self>, Fault> {
        let before = state.begin_attempt(lease, run, (whose, road), Mark::of(place)).await?;
        if before.deaths < DEATHS_MIN {
            return Ok(None);
        }
        tracing::warn!(
            whose,
            deaths = before.deaths,
            walking = road == Road::Walk,
            "processes have died here: going on in small steps"
        );
        let (singly, suspect) = match before.hand {
            Some((what, 1, deaths)) => (1, Some((what, deaths))),
            Some((_, size, _)) => (usize::try_from(size).unwrap_or(STEP), None),
            None => (0, None),
        };
        let (state, lease, whose) = (state.clone(), lease.clone(), whose.to_owned());
        let (left, has_rested) = (THINGS, false);
        Ok(Some(Self { state, lease, whose, road, singly, left, suspect, has_rested }))
    }

    /// How many things the next step takes.
    pub const fn step(&self) -> usize {
        if self.singly > 0 { 1 } else { STEP }
    }

    /// Whether what processes died of is far behind.
    pub const fn is_over(&self) -> bool {
        self.left == 0
    }

    /// The thing that is to be set aside unread, if it is the next at the place.
    pub fn doomed(&self) -> Option<Mark> {
        self.suspect.filter(|(_, deaths)| *deaths >= DEATHS_ALONE).map(|(what, _)| what)
    }

    /// Writes down what is about to be taken in hand at a place: the bytes that the first thing is
    /// known by, and how many things.
    ///
    /// A suspect is rested from before. If the pipeline is to `end` meanwhile, the suspicion
    /// stands, and the caller ends without it in hand.
    pub async fn take(
        &mut self,
        place: &[u8],
        first: &[u8],
        size: usize,
        end: impl Future<Output = ()>,
    ) -> Result<InHand, Fault> {
        let (place, first) = (Mark::of(place), Mark::of(first));
        let suspect = self.suspect.filter(|(what, _)| size == 1 && *what == first);
        let deaths = suspect.map_or(0, |(_, deaths)| deaths);
        if deaths >= DEATHS_ALONE {
            self.step_on(size);
            return Ok(InHand { _turn: None, is_doomed: true });
        }
        let Ok(turn) = tokio::time::timeout(PATIENCE, TURN.lock()).await else {
            return Ok(InHand { _turn: None, is_doomed: false });
        };
        if deaths > 0 && !self.has_rested {
            self.rest(end).await?;
        }
        let taken = TakenInHand { place, what: first, size, deaths };
        self.state.take_in_hand(&self.lease, (&self.whose, self.road), &taken).await?;
        self.step_on(size);
        Ok(InHand { _turn: Some(turn), is_doomed: false })
    }

    /// So many things are gone over.
    pub const fn step_on(&mut self, size: usize) {
        self.singly = self.singly.saturating_sub(size);
        self.left = self.left.saturating_sub(size);
    }

    /// Takes nothing in hand for a while. If this process ends in that while, what the one before
    /// it died of is under no suspicion any more.
    async fn rest(&mut self, end: impl Future<Output = ()>) -> Result<(), Fault> {
        self.state.let_go(&self.lease, (&self.whose, self.road)).await?;
        tracing::warn!(
            whose = self.whose,
            "a process died of one document: nothing is taken in hand for {REST:?} before it is"
        );
        tokio::select! {
            () = end => {}
            () = tokio::time::sleep(REST) => self.has_rested = true,
        }
        Ok(())
    }
}

/// What is set aside of a thing that processes died of: its key.
pub(super) fn letter(
    id: Option<String>,
    operation: &'static str,
    key: Evidence,
    at: Option<ClusterTime>,
) -> DeadLetter {
    let error = "processes died while they worked on just this document; it was not read again";
    DeadLetter {
        document_id: id,
        operation,
        event: key,
        code: DeadLetterCode::Crashed,
        error: error.to_owned(),
        cluster_time: at,
    }
}
