//! What one transaction carries, table by table, and what it came to.

use std::sync::Arc;

use super::dead_letter::{DeadLetter, Tally};
use super::mapping::Mapping;
use super::rows::{Deletes, Rows};
use super::slow_tables::Took;
use super::walk::Walk;
use crate::batch::EventRef;
use crate::error::Fault;
use crate::model::event::Event;
use crate::model::position::{ClusterTime, Position};
use crate::model::redaction::Evidence;
use crate::source::Reply;
use crate::spans::Span;
use crate::state::{PartStep, Witness};

/// What one transaction carries: works on tables of a group, and the position after all of them.
#[derive(Debug, Default)]
pub struct Commit {
    /// At most one a stream.
    pub works: Vec<Work>,
    /// Streams that the group goes on without from here on, and why.
    pub parked: Vec<(usize, Fault)>,
    /// The position after this; `None` leaves the stored one.
    pub position: Option<Position>,
    /// The time of the position before this, where it is known.
    pub after: Option<ClusterTime>,
    /// Streams whose tables are looked at, though nothing is written to them: whether they are what
    /// they were.
    pub looks: Vec<usize>,
    /// It ends amid what the source committed at one time: no table of the group is what the source
    /// was until the position has passed this time.
    pub amid: Option<ClusterTime>,
    /// The batch it is of, for who collects traces.
    pub span: Span,
}

impl Commit {
    /// Of one table, the position as it is.
    pub fn of(work: Work) -> Self {
        Self { works: vec![work], ..Self::default() }
    }

    /// Of no table.
    pub fn to(position: Position) -> Self {
        Self { position: Some(position), ..Self::default() }
    }

    /// The position, if it is that of a group in which nothing has happened.
    pub(super) const fn idle_position(&self) -> Option<&Position> {
        let writes = !self.works.is_empty() || !self.parked.is_empty() || self.amid.is_some();
        if writes || self.looks.is_empty() { None } else { self.position.as_ref() }
    }

    /// Events or documents it stands for.
    pub fn events(&self) -> u64 {
        self.works.iter().map(|work| work.events).sum()
    }
}

/// What one transaction writes of one table.
#[derive(Debug, Default)]
pub struct Work {
    /// The stream's place in its group.
    pub stream: usize,
    pub rows: Rows,
    /// How many rows, from the first on, are not expected to be in the table yet: these may go by
    /// COPY.
    pub fresh: usize,
    /// Rows left out because the table has them as they are.
    pub known: u64,
    pub deletes: Deletes,
    pub dead: Vec<DeadLetter>,
    /// A dead letter that this work resolves.
    pub resolves: Option<i64>,
    pub walk: Option<Walk>,
    /// The request to resync a part that this work is a step of.
    pub part: Option<PartStep>,
    /// The rows may be of any time up to this one, later than the position; `None`: of none that is
    /// later than it.
    pub ahead: Option<ClusterTime>,
    /// The resync that is open meanwhile: what this work leaves unwritten counts as seen by it.
    pub beside: Option<Beside>,
    /// Events or documents this work stands for.
    pub events: u64,
    /// Where row n came from: the raw bytes for a dead letter. Called with [`Rows::origin`].
    pub origins: Origins,
}

impl Work {
    /// Whether its rows mend what may be astray in the table, and are told apart: inserted and
    /// changed.
    pub(super) fn is_repair(&self) -> bool {
        self.part.is_some() || self.walk.as_ref().is_some_and(Walk::is_repair)
    }

    /// The ids of the documents it is about: written, deleted or set aside.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let rows = (0..self.rows.len()).filter_map(|index| self.rows.id(index));
        let dead = self.dead.iter().filter_map(|letter| letter.document_id.as_deref());
        rows.chain(self.deletes.ids.iter().map(String::as_str)).chain(dead)
    }
}

/// A resync that is open while the live stream writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    pub resync: i64,
    /// What is older is swept at its end, unless it was seen.
    pub start: ClusterTime,
}

/// The raw bytes rows were made from.
#[derive(Debug, Default)]
pub enum Origins {
    #[default]
    None,
    Events(Arc<[EventRef]>),
    Documents(Vec<Reply>),
}

impl Origins {
    /// What is kept of the event or document at a place.
    pub(super) fn evidence(&self, index: usize, mapping: &Mapping) -> Evidence {
        match self {
            Self::None => Evidence::of_key(None),
            Self::Events(events) => {
                mapping.evidence_of_event(events.get(index).map_or(&[], EventRef::bytes))
            }
            Self::Documents(replies) => {
                let mut items = replies.iter().flat_map(Reply::items);
                mapping.evidence_of_document(items.nth(index).unwrap_or_default())
            }
        }
    }

    pub(super) fn operation(&self, index: usize) -> &'static str {
        match self {
            Self::Events(events) => {
                let event = events.get(index).and_then(|e| Event::parse(e.bytes()).ok());
                event.map_or("unreadable", |event| event.operation.name())
            }
            Self::None | Self::Documents(_) => "snapshot",
        }
    }
}

/// What a piece of work came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Inserted or updated.
    pub rows_changed: u64,
    /// Of them, inserted by a resync.
    pub rows_inserted: u64,
    pub rows_unchanged: u64,
    pub rows_deleted: u64,
    pub set_aside: Tally,
    /// Of the dead letters, those that passed because a person lets more pass than an accident
    /// brings.
    pub letters_accepted: u64,
    /// Dead letters by the operation of their event, in the order of [`Operation::ROWS`].
    pub dead_by_operation: [u64; 4],
    /// A few ids of rows a resync inserted, changed or deleted.
    pub sample_ids: Vec<String>,
    /// Events or documents it stands for.
    pub events: u64,
    /// How long its statements took, where that tells of the table.
    pub took: Option<Took>,
    /// The table's witness from here on; unknown where it was not looked for.
    pub witness: Witness,
}

/// Ids kept of what one transaction of a resync did.
const SAMPLE_IDS: usize = 5;

impl Applied {
    /// Adds what another work on the same table came to.
    pub(super) fn add(&mut self, other: Self) {
        self.rows_changed += other.rows_changed;
        self.rows_inserted += other.rows_inserted;
        self.rows_unchanged += other.rows_unchanged;
        self.rows_deleted += other.rows_deleted;
        self.set_aside.add(&other.set_aside);
        self.letters_accepted += other.letters_accepted;
        for (mine, other) in self.dead_by_operation.iter_mut().zip(other.dead_by_operation) {
            *mine += other;
        }
        self.sample(other.sample_ids);
        self.events += other.events;
        if other.witness != Witness::Unknown {
            self.witness = other.witness;
        }
    }

    pub(super) fn sample(&mut self, ids: Vec<String>) {
        self.sample_ids.extend(ids);
        self.sample_ids.truncate(SAMPLE_IDS);
    }
}
