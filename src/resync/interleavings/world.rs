//! The model's database, live stream and memory.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::memory::{Chunk, Sweep};
use super::model_source::{Content, Event, Source, Time, Told};
use super::safeguard::Without;

#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub value: u32,
    /// Only a write that changes the row moves it.
    pub stamp: Time,
}

/// What was committed.
#[derive(Clone, Default)]
pub(super) struct Stored {
    pub revision: u64,
    pub table: BTreeMap<u8, Row>,
    /// Since when what a row showed last was so, also of rows that are gone.
    shown: BTreeMap<u8, Time>,
    /// How far the live stream has come in the log.
    pub applied: usize,
    /// The walk: the time it began at, the collection it walks, its place, what it saw.
    pub start: Time,
    pub collection: u32,
    pub after: Option<u8>,
    pub walked: bool,
    pub seen: BTreeSet<u8>,
    pub segments: Vec<(u8, u8)>,
    /// Waits for a person: so many rows would go.
    pub held: Option<usize>,
    /// What a person allowed.
    pub approved: Option<usize>,
    pub ended: bool,
}

impl Stored {
    pub const fn walks(&self) -> bool {
        !self.walked && !self.ended
    }

    pub const fn sweeps(&self) -> bool {
        self.walked && !self.ended && self.held.is_none()
    }
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "a model's switches and what it has noticed, each by itself"
)]
pub(super) struct World {
    pub without: Without,
    /// The position is other streams', too: a walk does not move it.
    pub has_neighbours: bool,
    /// The walk is wrong: it does not see every document.
    pub overlooks: bool,
    /// The source is asked for what is to be swept.
    pub asks: bool,
    pub source: Source,
    pub stored: Stored,
    commits: Vec<Stored>,
    /// A row went back to what is older than it had shown.
    regressed: bool,
    /// A part was swept though the collection that was walked could not be asked.
    pub swept_blindly: bool,
    /// A row was swept whose document the source had.
    pub swept_alive: bool,
    /// In memory: the revision made last, the chunk being read, the keys written live since its
    /// read began, the sweep, and that the stream's collection is gone.
    made: u64,
    pub chunk: Option<Chunk>,
    pub touched: BTreeSet<u8>,
    pub sweep: Option<Sweep>,
    pub halted: bool,
}

impl World {
    /// A table that is equal to the source, then a gap of changes nobody saw, then a new live
    /// position.
    pub fn after_a_gap(rng: &mut Rng, without: Without) -> Self {
        let has_neighbours = rng.bool();
        let mut source = Source::new();
        (0..rng.usize(..30)).for_each(|_| source.change(rng, false));
        let row = |content: &Content| Row { value: content.value, stamp: content.since };
        let table = source.documents.iter().map(|(key, content)| (*key, row(content))).collect();
        (0..rng.usize(1..20)).for_each(|_| source.change(rng, false));
        source.now += 1;
        let stored = Stored { table, start: source.now, ..Stored::default() };
        Self {
            without,
            has_neighbours,
            overlooks: false,
            asks: true,
            source,
            commits: vec![stored.clone()],
            stored,
            regressed: false,
            swept_blindly: false,
            swept_alive: false,
            made: 0,
            chunk: None,
            touched: BTreeSet::new(),
            sweep: None,
            halted: false,
        }
    }

    /// Whether memory is of what the database says now; if not, it is given up.
    pub fn knows(&mut self) -> bool {
        let knows = self.made == self.stored.revision || self.without == Without::Revision;
        if !knows {
            self.kill();
        }
        knows
    }

    pub fn commit(&mut self) {
        self.stored.revision = self.stored.revision.max(self.made) + 1;
        self.made = self.stored.revision;
        self.commits.push(self.stored.clone());
    }

    /// A row that would not change is left, and keeps its stamp. Returns whether it was left.
    pub fn write(&mut self, key: u8, content: Content, at: Time) -> bool {
        let row = self.stored.table.get(&key).copied();
        let newer = row.is_some_and(|row| row.stamp > at);
        if newer && self.without != Without::Guard {
            return true;
        }
        if row.is_some_and(|row| row.value == content.value) {
            return true;
        }
        self.regressed |=
            newer || self.stored.shown.get(&key).is_some_and(|shown| *shown > content.since);
        self.stored.table.insert(key, Row { value: content.value, stamp: at });
        self.stored.shown.insert(key, content.since);
        false
    }

    /// A batch of the live stream: a document that no event brought is looked up as it is by then.
    pub fn apply_batch(&mut self, rng: &mut Rng) {
        if self.halted || !self.knows() {
            return;
        }
        let end = self.source.log.len().min(self.stored.applied + rng.usize(1..4));
        let mut applied = self.stored.applied;
        let read_at = self.source.now;
        for index in self.stored.applied..end {
            match self.source.log.get(index).copied() {
                Some(event)
                    if self.is_of_before(&event) && self.without != Without::SkipsWhatWas => {}
                Some(Event::Of { at, key, told }) => self.apply(at, key, told, read_at),
                Some(Event::Dropped { at }) if at < self.stored.start => {}
                Some(Event::Dropped { .. }) => {
                    self.halted = true;
                    break;
                }
                None => break,
            }
            applied = index + 1;
        }
        if applied > self.stored.applied {
            self.stored.applied = applied;
            self.commit();
        }
    }

    fn apply(&mut self, at: Time, key: u8, told: Told, read_at: Time) {
        let (content, stamp) = match told {
            Told::Deleted => {
                let older = self.stored.table.get(&key).is_some_and(|row| row.stamp <= at);
                if older || self.without == Without::Guard {
                    self.regressed |= self.stored.shown.get(&key).is_some_and(|shown| *shown > at);
                    self.stored.table.remove(&key);
                }
                self.touched.insert(key);
                return;
            }
            Told::Brought(content) => (Some(content), at),
            Told::Changed if self.without == Without::ReadStamp => {
                (self.source.documents.get(&key).copied(), at)
            }
            Told::Changed => (self.source.documents.get(&key).copied(), read_at),
        };
        // A document that is gone: its deletion follows.
        let Some(content) = content else { return };
        let unwritten = self.write(key, content, stamp);
        if unwritten && !self.stored.ended && self.without != Without::SeenThoughUnwritten {
            self.stored.seen.insert(key);
        }
        self.touched.insert(key);
    }

    /// Whether an event is older than the walk that is open.
    pub fn is_of_before(&self, event: &Event) -> bool {
        !self.stored.ended && event.at() < self.stored.start
    }

    /// The collection is there again after its stream ended, or another one is found when a process
    /// begins: a new walk, and where the stream is alone a new position.
    pub fn heal(&mut self) {
        let Some(collection) = self.source.collection.filter(|_| self.halted) else { return };
        self.kill();
        self.source.now += 1;
        let start = self.source.now;
        let Stored { revision, table, shown, mut applied, .. } = std::mem::take(&mut self.stored);
        if !self.has_neighbours {
            applied = self.source.log.len();
        }
        self.stored =
            Stored { revision, table, shown, applied, start, collection, ..Stored::default() };
        self.commit();
    }

    /// A process begins: it looks at the collection before anything else.
    pub fn restart(&mut self) {
        self.kill();
        self.halted = self.source.collection.is_some_and(|it| it != self.stored.collection);
        self.heal();
    }

    /// What was in memory is gone; what was committed is not.
    pub fn kill(&mut self) {
        self.chunk = None;
        self.touched.clear();
        self.sweep = None;
        self.halted = false;
        self.made = self.stored.revision;
    }

    /// The database is what it was at some earlier commit.
    pub fn go_back(&mut self, rng: &mut Rng) {
        let to = rng.usize(..self.commits.len());
        self.commits.truncate(to + 1);
        if let Some(earlier) = self.commits.last() {
            self.stored = earlier.clone();
        }
    }

    /// Nothing is left to be done while the source is quiet.
    pub const fn is_finished(&self) -> bool {
        self.stored.ended && self.stored.applied == self.source.log.len() && !self.halted
    }

    /// Whether the table is equal, no row went back, and nothing was deleted blindly.
    pub fn ended_well(&self) -> bool {
        let rows = self.stored.table.iter().map(|(key, row)| (*key, row.value));
        let documents = self.source.documents.iter().map(|(key, content)| (*key, content.value));
        rows.eq(documents) && !self.regressed && !self.swept_blindly && self.stored.ended
    }
}
