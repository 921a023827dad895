//! The model's group: several tables under one position, and what it says of their exactness.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

use super::group_safeguard::Omitted;
use super::model_ledger::{ACCOUNTS, Amount, Amounts, Ledger, TABLES, Word};
use super::model_source::Time;

/// Later than any time of the source.
const END: Time = Time::MAX;

/// A walk of one table.
#[derive(Clone)]
pub(super) struct TableWalk {
    pub start: Time,
    /// The key it has come to.
    pub from: u8,
    pub seen: BTreeSet<u8>,
    /// What the table holds may be of any time up to this one.
    pub read_until: Time,
}

impl TableWalk {
    pub const fn is_walked(&self) -> bool {
        self.from >= ACCOUNTS
    }
}

/// One table as it was committed, and what is noted of it.
#[derive(Clone, Default)]
pub(super) struct ModelTable {
    /// Each with its stamp.
    pub rows: BTreeMap<u8, (Amount, Time)>,
    pub ahead: Time,
    pub is_parked: bool,
    /// It lacks what nobody saw, until a walk is completed.
    pub is_blind: bool,
    pub walk: Option<TableWalk>,
}

/// What was committed.
#[derive(Clone, Default)]
pub(super) struct GroupStored {
    revision: u64,
    pub tables: [ModelTable; TABLES],
    /// How far the live stream has come in the log, and the time of that position.
    pub applied: usize,
    pub time: Time,
}

/// What a find answered, and when.
type Find = (Time, Vec<(u8, Amount)>);

/// A chunk being read by two finds at once: what each answered, and when.
pub(super) struct TableChunk {
    pub from: u8,
    pub answers: [Option<Find>; 2],
}

pub(super) struct GroupWorld {
    pub omitted: Omitted,
    pub ledger: Ledger,
    pub stored: GroupStored,
    commits: Vec<GroupStored>,
    /// A table was said to be exact and was not what the source was at the position.
    pub is_wrong: bool,
    /// In memory: the revision made last; by table, the chunk being read, and the keys written live
    /// since its read began.
    made: u64,
    pub chunks: [Option<TableChunk>; TABLES],
    pub touched: [BTreeSet<u8>; TABLES],
}

impl GroupWorld {
    /// Tables that are equal to the source, then a gap that nobody saw, then a new position: each
    /// of them is to be walked.
    pub fn new(rng: &mut Rng, omitted: Omitted) -> Self {
        let mut ledger = Ledger::new();
        let rows = |amounts: &Amounts| amounts.iter().map(|(key, has)| (*key, (*has, 0))).collect();
        let table =
            |amounts| ModelTable { rows: rows(amounts), is_blind: true, ..ModelTable::default() };
        let tables = ledger.read(0).1.each_ref().map(table);
        (0..rng.usize(..10)).for_each(|_| ledger.transact(rng));
        let time = ledger.now() + u64::from(omitted == Omitted::Opening);
        let stored = GroupStored { revision: 0, tables, applied: ledger.log.len(), time };
        let mut world = Self {
            omitted,
            ledger,
            commits: Vec::new(),
            stored,
            is_wrong: false,
            made: 0,
            chunks: Default::default(),
            touched: Default::default(),
        };
        (0..TABLES).for_each(|table| world.begin_walk(table));
        world.commit();
        world
    }

    /// Whether memory is of what the database says now; if not, it is given up.
    pub fn knows(&mut self) -> bool {
        let knows = self.made == self.stored.revision;
        if !knows {
            self.kill();
        }
        knows
    }

    pub fn commit(&mut self) {
        self.stored.revision += 1;
        self.made = self.stored.revision;
        self.commits.push(self.stored.clone());
        self.look();
    }

    /// A reader looks at all tables.
    pub fn look(&mut self) {
        // A time that has not come may come at any moment, and with it the next look.
        let Some(state) = self.ledger.at(self.stored.time) else { return };
        let (mut exact, mut sum) = (0, 0);
        for (table, amounts) in self.stored.tables.iter().zip(state) {
            let rows = table.rows.iter().map(|(key, (amount, _))| (key, amount));
            sum += table.rows.values().map(|(amount, _)| *amount).sum::<Amount>();
            if self.says_exact(table) {
                exact += 1;
                self.is_wrong |= !rows.eq(amounts.iter());
            }
        }
        self.is_wrong |= exact == TABLES && sum != self.ledger.total();
    }

    fn says_exact(&self, table: &ModelTable) -> bool {
        let is_parked = table.is_parked && self.omitted != Omitted::Parked;
        !is_parked && self.stored.time >= table.ahead
    }

    /// A table's rows may be of any time up to this one.
    pub fn note_ahead(&mut self, table: usize, until: Time) {
        let Some(table) = self.stored.tables.get_mut(table) else { return };
        table.ahead = table.ahead.max(until);
        if let Some(walk) = table.walk.as_mut().filter(|_| self.omitted != Omitted::KeptByWalk) {
            walk.read_until = walk.read_until.max(until);
        }
    }

    pub fn begin_walk(&mut self, table: usize) {
        // What is of that very time may be half of a transaction: it is older than the walk.
        let half = u64::from(self.omitted != Omitted::HalfIsOlder);
        let start = self.stored.time.max(self.ledger.now()) + half;
        let Some(stored) = self.stored.tables.get_mut(table) else { return };
        let seen = BTreeSet::new();
        // What was ahead of the position before is so afterwards, should the walk be cancelled.
        let read_until = match &stored.walk {
            _ if self.omitted == Omitted::AheadBefore => 0,
            Some(before) => before.read_until,
            None => stored.ahead,
        };
        stored.walk = Some(TableWalk { start, from: 0, seen, read_until });
        if self.omitted != Omitted::Walking {
            stored.ahead = END;
        }
        if let Some(chunk) = self.chunks.get_mut(table) {
            *chunk = None;
        }
    }

    /// A batch of the live stream, for all tables at once. It ends between two times, also where
    /// one is larger than the limit; but not where it steps with care.
    pub fn apply_batch(&mut self, rng: &mut Rng) {
        if !self.knows() {
            return;
        }
        let with_care = rng.u8(..10) == 0;
        let cuts = with_care || self.omitted == Omitted::WholeTimes;
        let end = self.end_of_batch(rng.usize(1..5), cuts);
        let Some(last) = end.checked_sub(1).filter(|_| end > self.stored.applied) else {
            // The server has read on, and there was nothing.
            self.stored.time = self.stored.time.max(self.ledger.now());
            return self.commit();
        };
        let time = self.ledger.log.get(last).map_or(0, |entry| entry.at);
        let fails = (rng.u8(..12) == 0).then(|| rng.usize(..TABLES));
        if let Some(table) = fails.and_then(|table| self.stored.tables.get_mut(table)) {
            (table.is_parked, table.is_blind) = (true, true);
        }
        self.write_batch(end, time);
        (self.stored.applied, self.stored.time) = (end, time);
        if with_care && self.omitted != Omitted::Amid {
            (0..TABLES).for_each(|table| self.note_ahead(table, time + 1));
        }
        self.commit();
    }

    fn end_of_batch(&self, limit: usize, cuts: bool) -> usize {
        let (begin, log) = (self.stored.applied, &self.ledger.log);
        let is_end = |end: usize| match (log.get(end - 1), log.get(end)) {
            (Some(last), Some(next)) => last.at != next.at,
            _ => true,
        };
        let end = (begin + limit).min(log.len());
        if cuts || end == begin {
            return end;
        }
        let before = (begin + 1..=end).rev().find(|end| is_end(*end));
        before.or_else(|| (end..=log.len()).find(|end| is_end(*end))).unwrap_or(begin)
    }

    /// The last change of each key; what no event brought is read as it was at the batch's time, if
    /// the source can do so.
    fn write_batch(&mut self, end: usize, time: Time) {
        let mut changes = BTreeMap::new();
        for entry in self.ledger.log.get(self.stored.applied..end).unwrap_or_default() {
            changes.insert((entry.table, entry.key), *entry);
        }
        let (read_at, state) = self.ledger.read(time);
        for ((table, key), entry) in changes {
            if self.stored.tables.get(table).is_none_or(|table| table.is_parked) {
                continue;
            }
            match entry.word {
                Word::Deleted => self.delete(table, key, entry.at),
                Word::Brought(amount) => self.write(table, key, amount, entry.at),
                Word::Changed => {
                    let found = state.get(table).and_then(|amounts| amounts.get(&key)).copied();
                    let is_told = found.is_some() || self.omitted != Omitted::GoneIsAhead;
                    if read_at > time && is_told && self.omitted != Omitted::LookedUp {
                        self.note_ahead(table, read_at);
                    }
                    let Some(amount) = found else { continue };
                    self.write(table, key, amount, read_at);
                }
            }
            if let Some(touched) = self.touched.get_mut(table) {
                touched.insert(key);
            }
        }
    }

    /// A row that would not change is left, and keeps its stamp; an open walk has seen it.
    pub fn write(&mut self, table: usize, key: u8, amount: Amount, at: Time) {
        let Some(table) = self.stored.tables.get_mut(table) else { return };
        let row = table.rows.get(&key).copied();
        if row.is_some_and(|(has, stamp)| stamp > at || has == amount) {
            if let Some(walk) = &mut table.walk {
                walk.seen.insert(key);
            }
        } else {
            table.rows.insert(key, (amount, at));
        }
    }

    fn delete(&mut self, table: usize, key: u8, at: Time) {
        let Some(table) = self.stored.tables.get_mut(table) else { return };
        if table.rows.get(&key).is_some_and(|(_, stamp)| *stamp <= at) {
            table.rows.remove(&key);
        }
    }

    /// What parked a table is gone: it is walked.
    pub fn unpark(&mut self, table: usize) {
        let Some(stored) = self.stored.tables.get_mut(table).filter(|t| t.is_parked) else {
            return;
        };
        stored.is_parked = false;
        self.kill();
        if self.omitted != Omitted::Repair {
            self.begin_walk(table);
        }
        self.commit();
    }

    /// A person asks for a walk of a table that is neither walked nor parked, or ends one that
    /// makes up for nothing.
    pub fn ask(&mut self, table: usize) {
        let Some(stored) = self.stored.tables.get_mut(table).filter(|t| !t.is_parked) else {
            return;
        };
        match stored.walk.take() {
            Some(walk) if !stored.is_blind || self.omitted == Omitted::BlindIsWalked => {
                stored.ahead = walk.read_until;
                self.kill();
            }
            Some(walk) => {
                stored.walk = Some(walk);
                return;
            }
            None => {
                self.kill();
                self.begin_walk(table);
            }
        }
        self.commit();
    }

    /// A person takes the position back to one that was.
    pub fn rewind(&mut self, rng: &mut Rng) {
        let to = rng.usize(..self.commits.len());
        let to = self.commits.get(to).map(|to| (to.applied, to.time));
        let GroupStored { applied: far, time: present, .. } = self.stored;
        let is_back = |to: &(usize, Time)| to.0 <= far && to.1 <= present;
        let Some((applied, time)) = to.filter(is_back) else { return };
        self.kill();
        if self.omitted != Omitted::Rewound {
            (0..TABLES).for_each(|table| self.note_ahead(table, present));
        }
        (self.stored.applied, self.stored.time) = (applied, time);
        self.commit();
    }

    /// What was in memory is gone; what was committed is not.
    pub fn kill(&mut self) {
        self.chunks = Default::default();
        self.touched = Default::default();
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
    pub fn is_finished(&self) -> bool {
        let is_done = |table: &ModelTable| !table.is_parked && table.walk.is_none();
        self.stored.applied == self.ledger.log.len()
            && self.stored.time == self.ledger.now()
            && self.stored.tables.iter().all(is_done)
    }

    /// Whether all that was to be done is, and all tables say that they are exact.
    pub fn is_all_exact(&self) -> bool {
        self.is_finished() && self.stored.tables.iter().all(|table| self.says_exact(table))
    }
}
