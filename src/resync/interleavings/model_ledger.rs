//! The model's source of a group: documents with amounts in several collections, moved by
//! transactions that leave their sum as it is; what there was at every time; and what a change
//! stream on all of them tells.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::model_source::Time;

pub(super) const TABLES: usize = 3;

pub(super) const ACCOUNTS: u8 = 8;

const AMOUNT: i32 = 3;

/// For so long the source can be read as it was.
const WINDOW: Time = 5;

/// Amounts by key.
pub(super) type Amounts = BTreeMap<u8, i32>;

pub(super) type Amount = i32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Deleted,
    /// The event brings the amount.
    Brought(Amount),
    /// It has to be looked up.
    Changed,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Entries of one transaction have one time.
    pub at: Time,
    pub table: usize,
    pub key: u8,
    pub word: Word,
}

pub(super) struct Ledger {
    /// By time.
    states: Vec<[Amounts; TABLES]>,
    pub log: Vec<Entry>,
}

impl Ledger {
    pub fn new() -> Self {
        // Every other key, so that documents can go elsewhere.
        let accounts = |first| (first..ACCOUNTS).step_by(2).map(|key| (key, AMOUNT)).collect();
        Self { states: vec![[accounts(0), accounts(1), accounts(0)]], log: Vec::new() }
    }

    pub fn now(&self) -> Time {
        crate::model::count(self.states.len()) - 1
    }

    /// What there was at a time, if it has come.
    pub fn at(&self, time: Time) -> Option<&[Amounts; TABLES]> {
        self.states.get(usize::try_from(time).ok()?)
    }

    /// What there was at a time if the source still keeps it, else what there is; and of when that
    /// is.
    pub fn read(&self, time: Time) -> (Time, [Amounts; TABLES]) {
        let at = if self.now() - time > WINDOW { self.now() } else { time };
        (at, self.at(at).cloned().unwrap_or_default())
    }

    pub fn total(&self) -> Amount {
        self.states.first().map_or(0, |state| state.iter().flat_map(BTreeMap::values).sum())
    }

    /// Time passes: the server's entry of nothing.
    pub fn rest(&mut self) {
        self.states.push(self.read(self.now()).1);
    }

    /// One transaction; it may be of more entries than a batch.
    pub fn transact(&mut self, rng: &mut Rng) {
        let at = self.now() + 1;
        let (_, mut state) = self.read(self.now());
        for _ in 0..if rng.u8(..6) == 0 { 3 } else { 1 } {
            let (from, to) = (rng.usize(..TABLES), rng.usize(..TABLES));
            let (key, other) = (rng.u8(..ACCOUNTS), rng.u8(..ACCOUNTS));
            if rng.bool() {
                self.wander(&mut state, at, key, (from, to));
            } else {
                self.pay(&mut state, at, rng, ((from, key), (to, other)));
            }
        }
        self.states.push(state);
    }

    /// A whole document goes from one collection to another.
    fn wander(
        &mut self,
        state: &mut [Amounts; TABLES],
        at: Time,
        key: u8,
        (from, to): (usize, usize),
    ) {
        let there = state.get(to).is_none_or(|amounts| amounts.contains_key(&key));
        let amount = if there { None } else { state.get_mut(from).and_then(|a| a.remove(&key)) };
        let (Some(amount), Some(amounts)) = (amount, state.get_mut(to)) else { return };
        amounts.insert(key, amount);
        self.log.push(Entry { at, table: from, key, word: Word::Deleted });
        self.log.push(Entry { at, table: to, key, word: Word::Brought(amount) });
    }

    /// A part of an amount goes from one document to another.
    fn pay(
        &mut self,
        state: &mut [Amounts; TABLES],
        at: Time,
        rng: &mut Rng,
        (from, to): ((usize, u8), (usize, u8)),
    ) {
        let is_there =
            |(table, key): (usize, u8)| state.get(table).is_some_and(|a| a.contains_key(&key));
        if !is_there(from) || !is_there(to) {
            return;
        }
        for ((table, key), change) in [(from, -1), (to, 1)] {
            let Some(amount) = state.get_mut(table).and_then(|a| a.get_mut(&key)) else { return };
            *amount += change;
            let word = if rng.bool() { Word::Brought(*amount) } else { Word::Changed };
            self.log.push(Entry { at, table, key, word });
        }
    }
}
