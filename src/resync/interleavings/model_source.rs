//! The model's source: documents, what a change stream tells of them, and a collection that may be
//! another one.

use std::collections::BTreeMap;

use fastrand::Rng;

pub(super) type Time = u64;

/// Few enough that a document is often again what it was before.
const CONTENTS: u32 = 4;

pub(super) const KEYS: u8 = 12;

/// Documents a find finds at most.
pub(super) const FIND: usize = 3;

/// What a document is, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    pub value: u32,
    pub since: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Deleted,
    /// The event brings the document.
    Brought(Content),
    /// It has to be looked up.
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Of {
        at: Time,
        key: u8,
        told: Told,
    },
    /// The collection is gone: the stream ends here.
    Dropped {
        at: Time,
    },
}

impl Event {
    pub const fn at(&self) -> Time {
        match self {
            Self::Of { at, .. } | Self::Dropped { at } => *at,
        }
    }
}

/// What a find answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub rows: Vec<(u8, Content)>,
    /// When it was read.
    pub at: Time,
    pub place: Option<u8>,
    pub end: bool,
}

#[derive(Default)]
pub(super) struct Source {
    pub documents: BTreeMap<u8, Content>,
    /// From the start of the first walk on.
    pub log: Vec<Event>,
    pub now: Time,
    /// Which collection it is that has the name; `None` if none has.
    pub collection: Option<u32>,
    made: u32,
}

impl Source {
    pub fn new() -> Self {
        Self { collection: Some(0), ..Self::default() }
    }

    pub fn change(&mut self, rng: &mut Rng, logged: bool) {
        if self.collection.is_none() {
            return;
        }
        self.now += 1;
        let (at, key) = (self.now, rng.u8(..KEYS));
        let told = if rng.u8(..3) == 0 {
            if self.documents.remove(&key).is_none() {
                return;
            }
            Told::Deleted
        } else {
            let content = Content { value: rng.u32(..CONTENTS), since: at };
            self.documents.insert(key, content);
            if rng.bool() { Told::Brought(content) } else { Told::Changed }
        };
        if logged {
            self.log.push(Event::Of { at, key, told });
        }
    }

    /// The collection is dropped.
    pub fn drop_it(&mut self) {
        if self.collection.take().is_some() {
            self.now += 1;
            self.documents.clear();
            self.log.push(Event::Dropped { at: self.now });
        }
    }

    /// It is there again: another one, with some of what there was before; filled, or renamed,
    /// which tells of no document.
    pub fn make_again(&mut self, rng: &mut Rng, before: &BTreeMap<u8, u32>) {
        if self.collection.is_none() {
            self.made += 1;
            self.collection = Some(self.made);
            self.now += 1;
            let is_filled = rng.bool();
            for (key, value) in before.iter().filter(|_| rng.u8(..4) > 0) {
                self.documents.insert(*key, Content { value: *value, since: self.now });
                let told = Told::Brought(Content { value: *value, since: self.now });
                if is_filled {
                    self.log.push(Event::Of { at: self.now, key: *key, told });
                }
            }
        }
    }

    /// Up to `FIND` documents after a place, as far as `last` if that is given.
    pub fn find(&self, from: Option<u8>, last: Option<u8>) -> Answer {
        let found = |high: u8| {
            let rest =
                self.documents.iter().filter(|(key, _)| from.is_none_or(|from| **key > from));
            let rows = rest.filter(|(key, _)| **key <= high).take(FIND);
            rows.map(|(key, content)| (*key, *content)).collect::<Vec<_>>()
        };
        let rows = last.map(found).unwrap_or_default();
        let at = self.now;
        if rows.is_empty() {
            let rows = found(KEYS);
            return Answer {
                place: rows.last().map(|(key, _)| *key),
                end: rows.len() < FIND,
                rows,
                at,
            };
        }
        let place = if rows.len() < FIND { last } else { rows.last().map(|(key, _)| *key) };
        Answer { rows, at, place, end: false }
    }
}
