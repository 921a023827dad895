//! The walks of a group: as many at once as `resync.concurrent` allows, the others in a queue.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::select_all;

use super::care::Care;
use super::context::{GroupContext, retry};
use super::resync::{Done, OpenResync, beside, report};
use super::search::Reached;
use super::walker::ResyncPart;
use crate::apply::{Applied, Beside, Commit};
use crate::error::Fault;
use crate::model::phase::Phase;
use crate::model::position::ClusterTime;
use crate::model::step::Step;
use crate::state::{Lease, WalkRow};

/// Walks that have not ended.
pub struct OpenWalks {
    group: GroupContext,
    /// Under way, or held.
    open: Vec<OpenWalk>,
    queue: VecDeque<Queued>,
    reached: Reached,
}

struct OpenWalk {
    stream: usize,
    resync: OpenResync,
    /// Its chunks may go into one transaction: their rate is not limited, it has not failed, and no
    /// process has died of it.
    bulk_loads: bool,
}

struct Queued {
    stream: usize,
    row: WalkRow,
    care: Option<Care>,
}

/// What a walk hands on to be written.
pub struct Part {
    pub stream: usize,
    pub part: ResyncPart,
}

impl OpenWalks {
    /// Takes the open walks up: those that had their turn first.
    pub fn new(
        group: &GroupContext,
        rows: Vec<(usize, WalkRow, Option<Care>)>,
        reached: Reached,
    ) -> Self {
        let mut queue: Vec<Queued> =
            rows.into_iter().map(|(stream, row, care)| Queued { stream, row, care }).collect();
        queue.sort_by_key(|queued| (queued.row.walked_since.is_none(), queued.row.id));
        // A process that led them before may have told of walks that it completed since.
        for stream in group.streams.iter() {
            stream.status.walking(None);
        }
        for queued in &queue {
            if let Some(stream) = group.streams.get(queued.stream) {
                stream.status.walking(Some(report(&queued.row)));
                stream.status.entered(Phase::Queued);
            }
        }
        Self { group: group.clone(), open: Vec::new(), queue: queue.into(), reached }
    }

    /// Gives walks their turn while there are turns to be had.
    pub async fn fill(&mut self, lease: &Lease) -> Result<(), Fault> {
        let concurrent = self.group.settings.resync.concurrent;
        let resync = &self.group.settings.resync;
        let before = self.queue.len();
        while self.open.iter().filter(|walk| walk.resync.is_under_way()).count() < concurrent
            && let Some(Queued { stream, mut row, care }) = self.queue.pop_front()
        {
            let Some(context) = self.group.streams.get(stream) else { continue };
            if row.walked_since.is_none() {
                let limit = (!row.is_snapshot()).then_some(resync.duration_max);
                let state = &self.group.state;
                retry!(self.group, Step::Apply, state.take_turn(lease, row.id, limit))?;
                row.seconds_left = limit.map(|limit| limit.as_secs_f64());
                row.deadline_at = limit.and_then(|limit| {
                    chrono::Utc::now().checked_add_signed(chrono::Duration::from_std(limit).ok()?)
                });
            }
            context.status.entered(phase(&row));
            let may_copy = context.config.children.is_empty();
            let bulk_loads = may_copy && resync.documents_per_second_max == 0 && care.is_none();
            let resync = OpenResync::take_up(context, &row, self.reached.clone(), care);
            self.open.push(OpenWalk { stream, resync, bulk_loads });
        }
        if self.queue.len() < before {
            self.show_places();
        }
        Ok(())
    }

    /// Who waits is told after how many others that are waiting.
    fn show_places(&self) {
        for (place, queued) in self.queue.iter().enumerate() {
            if let Some(context) = self.group.streams.get(queued.stream) {
                context.status.queued(place);
            }
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether nothing waits for its turn that could have it.
    pub fn is_filled(&self) -> bool {
        let under_way = self.open.iter().filter(|walk| walk.resync.is_under_way()).count();
        self.queue.is_empty() || under_way >= self.group.settings.resync.concurrent
    }

    /// The next part to be committed, of whichever walk has one first. Safe to cancel.
    ///
    /// # Errors
    /// Of which stream's walk, and why it cannot go on.
    pub async fn next(&mut self) -> Result<Part, (usize, Fault)> {
        if self.open.is_empty() {
            return std::future::pending().await;
        }
        let parts = self.open.iter_mut().map(|walk| {
            Box::pin(async {
                let stream = walk.stream;
                walk.resync.next().await.map_or_else(
                    |fault| Err((stream, fault)),
                    |mut part| {
                        part.work.stream = stream;
                        Ok(Part { stream, part })
                    },
                )
            })
        });
        let (part, place, _) = select_all(parts).await;
        // The others come first next time.
        if let Some(walk) = (place + 1 < self.open.len()).then(|| self.open.remove(place)) {
            self.open.push(walk);
        }
        part
    }

    fn of(&mut self, stream: usize) -> Option<&mut OpenWalk> {
        self.open.iter_mut().find(|walk| walk.stream == stream)
    }

    pub fn resync(&mut self, stream: usize) -> Option<&mut OpenResync> {
        self.of(stream).map(|walk| &mut walk.resync)
    }

    pub fn bulk_loads(&mut self, stream: usize) -> bool {
        self.of(stream).is_some_and(|walk| walk.bulk_loads)
    }

    /// Tells the writer of the walks that its changes are written beside.
    pub fn stand_beside(&self, commit: &mut Commit) {
        for work in commit.works.iter_mut().filter(|work| work.walk.is_none()) {
            work.beside = self.beside(work.stream);
        }
    }

    /// What a writer must know of a stream's open walk, in whatever state.
    pub fn beside(&self, stream: usize) -> Option<Beside> {
        let open = self.open.iter().find(|walk| walk.stream == stream);
        let queued = || self.queue.iter().find(|queued| queued.stream == stream);
        open.map_or_else(
            || queued().and_then(|queued| beside(&queued.row)),
            |walk| walk.resync.beside(),
        )
    }

    /// The live stream met these rows.
    pub fn touch(&mut self, commit: &Commit) {
        for walk in &mut self.open {
            let works = commit.works.iter().filter(|work| work.stream == walk.stream);
            for work in works {
                walk.resync.touch(work);
            }
        }
    }

    /// The live stream has come to an event of this time.
    pub fn passed(&mut self, at: Option<ClusterTime>) {
        for walk in &mut self.open {
            walk.resync.passed(at);
        }
    }

    /// A part was committed.
    pub async fn committed(&mut self, part: &Part, applied: &Applied, took: Duration) -> Done {
        let Some(walk) = self.of(part.stream) else { return Done::More };
        let done = walk.resync.committed(&part.part, applied, took).await;
        if done == Done::Completed {
            self.remove(part.stream);
        }
        done
    }

    /// Goes on with a walk from where the database says it is, chunk by chunk.
    pub fn take_up_again(&mut self, stream: usize, row: &WalkRow) {
        self.open.retain(|walk| walk.stream != stream);
        if let Some(context) = self.group.streams.get(stream) {
            let resync = OpenResync::take_up(context, row, self.reached.clone(), None);
            self.open.push(OpenWalk { stream, resync, bulk_loads: false });
        }
    }

    /// The stream is not walked any more.
    pub fn remove(&mut self, stream: usize) {
        self.open.retain(|walk| walk.stream != stream);
        let before = self.queue.len();
        self.queue.retain(|queued| queued.stream != stream);
        if self.queue.len() < before {
            self.show_places();
        }
    }
}

/// The phase of a stream whose walk has its turn.
pub fn phase(row: &WalkRow) -> Phase {
    if row.is_snapshot() { Phase::Snapshotting } else { Phase::Resyncing }
}
