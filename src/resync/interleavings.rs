//! The walk beside the live stream, as a model: thousands of interleavings of changes, batches, chunks, kills and the
//! sweep must end with the table equal to the source and no row gone back in cluster time; and with any one safeguard
//! taken out, some must not.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

/// Which safeguard is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    Sweep,
    /// Older cluster times overwrite newer ones.
    Guard,
    /// A chunk is stamped with the time after its read instead of before.
    EarlyStamp,
    /// Keys written live since a chunk's read began are written from the chunk all the same.
    TouchedKeys,
    /// The sweep takes rows newer than the walk's start, too.
    SweepAge,
    /// The walk's place is remembered before its chunk is written.
    PlaceWithChunk,
    /// What is left out of a chunk because the table has it does not count as seen.
    SeenThoughKnown,
    /// A stretch of the table may hold rows that the chunk does not.
    NothingElseInStretch,
}

/// Few enough that a document is often again what it was before.
const CONTENTS: u32 = 4;

const KEYS: u8 = 12;
const CHUNK: usize = 3;

type Time = u64;

#[derive(Default)]
struct Source {
    /// By key, the content.
    documents: BTreeMap<u8, u32>,
    /// (time, key, whether it was deleted), from the start of the walk on.
    log: Vec<(Time, u8, bool)>,
    now: Time,
}

impl Source {
    fn change(&mut self, rng: &mut Rng, logged: bool) {
        self.now += 1;
        let key = rng.u8(..KEYS);
        let deleted = rng.u8(..3) == 0;
        if deleted {
            if self.documents.remove(&key).is_none() {
                return;
            }
        } else {
            self.documents.insert(key, rng.u32(..CONTENTS));
        }
        if logged {
            self.log.push((self.now, key, deleted));
        }
    }
}

#[derive(Clone)]
struct Chunk {
    rows: Vec<(u8, u32)>,
    seen: Vec<u8>,
    /// Instead of the keys seen: from one to another the table had just the chunk.
    stretch: Option<(u8, u8)>,
    /// The table has been asked about it.
    asked: bool,
    stamp: Time,
    after: Option<u8>,
    end: bool,
}

struct World {
    without: Without,
    source: Source,
    table: BTreeMap<u8, (u32, Time)>,
    /// Durable: how far the live stream and the walk have come, and what the walk saw.
    applied: usize,
    start: Time,
    after: Option<u8>,
    walked: bool,
    seen: BTreeSet<u8>,
    stretches: Vec<(u8, u8)>,
    swept: bool,
    /// A row went back in cluster time.
    regressed: bool,
    /// In memory: a chunk read and not written, and the keys written live since its read began.
    read: Option<Chunk>,
    touched: BTreeSet<u8>,
}

impl World {
    /// A table that is equal to the source, then a gap of changes nobody saw, then a new live position.
    fn after_a_gap(rng: &mut Rng, without: Without) -> Self {
        let mut source = Source::default();
        (0..rng.usize(..30)).for_each(|_| source.change(rng, false));
        let table = source.documents.iter().map(|(key, content)| (*key, (*content, source.now))).collect();
        (0..rng.usize(1..20)).for_each(|_| source.change(rng, false));
        let start = source.now + 1;
        source.now = start;
        Self {
            without,
            source,
            table,
            applied: 0,
            start,
            after: None,
            walked: false,
            seen: BTreeSet::new(),
            stretches: Vec::new(),
            swept: false,
            regressed: false,
            read: None,
            touched: BTreeSet::new(),
        }
    }

    fn write(&mut self, key: u8, content: u32, at: Time) {
        let newer = self.table.get(&key).is_some_and(|(_, time)| *time > at);
        if !newer || self.without == Without::Guard {
            self.regressed |= newer;
            self.table.insert(key, (content, at));
        }
    }

    /// A batch of the live stream: an update's document is looked up as it is by then.
    fn apply_batch(&mut self, rng: &mut Rng) {
        let end = self.source.log.len().min(self.applied + rng.usize(1..4));
        for index in self.applied..end {
            let Some(&(at, key, deleted)) = self.source.log.get(index) else { continue };
            if deleted {
                let older = self.table.get(&key).is_some_and(|(_, time)| *time <= at);
                if older || self.without == Without::Guard {
                    self.table.remove(&key);
                }
                self.touched.insert(key);
            } else if let Some(content) = self.source.documents.get(&key).copied() {
                self.write(key, content, at);
                self.touched.insert(key);
            }
        }
        self.applied = end;
    }

    /// Reads a chunk ahead. Its stamp is taken first; more may happen before the read.
    fn read_chunk(&mut self, rng: &mut Rng) {
        if self.read.is_some() || self.walked {
            return;
        }
        self.touched.clear();
        let before = self.source.now;
        (0..rng.usize(..3)).for_each(|_| self.source.change(rng, true));
        let after = self.after;
        let rest = self.source.documents.iter().filter(|(key, _)| after.is_none_or(|after| **key > after));
        let rows: Vec<(u8, u32)> = rest.take(CHUNK).map(|(key, content)| (*key, *content)).collect();
        (0..rng.usize(..3)).for_each(|_| self.source.change(rng, true));
        let chunk = Chunk {
            seen: rows.iter().map(|(key, _)| *key).collect(),
            stretch: None,
            asked: false,
            stamp: if self.without == Without::EarlyStamp { self.source.now } else { before },
            after: rows.last().map(|(key, _)| *key),
            end: rows.len() < CHUNK,
            rows,
        };
        if self.without == Without::PlaceWithChunk {
            self.advance(&chunk);
        }
        self.read = Some(chunk);
    }

    /// Leaves out of the chunk read what the table has by now.
    fn leave_known_out(&mut self) {
        let Some(chunk) = self.read.as_mut().filter(|chunk| !chunk.asked) else { return };
        chunk.asked = true;
        if let (Some((low, _)), Some((high, _))) = (chunk.rows.first(), chunk.rows.last()) {
            let there = self.table.range(low..=high).map(|(key, (content, _))| (*key, *content));
            let is_stretch = if self.without == Without::NothingElseInStretch {
                chunk.rows.iter().all(|row| there.clone().any(|has| has == *row))
            } else {
                there.eq(chunk.rows.iter().copied())
            };
            if is_stretch {
                chunk.stretch = Some((*low, *high));
                chunk.seen.clear();
                chunk.rows.clear();
            }
        }
        let (table, forgets) = (&self.table, self.without == Without::SeenThoughKnown);
        let is_known = |(key, content): &(u8, u32)| table.get(key).is_some_and(|(has, _)| has == content);
        if forgets {
            let known: Vec<u8> = chunk.rows.iter().filter(|row| is_known(row)).map(|(key, _)| *key).collect();
            chunk.seen.retain(|key| !known.contains(key));
        }
        chunk.rows.retain(|row| !is_known(row));
    }

    fn write_chunk(&mut self) {
        let Some(chunk) = self.read.take() else { return };
        for (key, content) in &chunk.rows {
            if !self.touched.contains(key) || self.without == Without::TouchedKeys {
                self.write(*key, *content, chunk.stamp);
            }
        }
        self.seen.extend(&chunk.seen);
        self.stretches.extend(chunk.stretch);
        self.advance(&chunk);
    }

    fn advance(&mut self, chunk: &Chunk) {
        self.after = chunk.after.or(self.after);
        self.walked = chunk.end;
    }

    fn sweep(&mut self) {
        if !self.walked || self.read.is_some() || self.swept {
            return;
        }
        let (seen, start, any_age) = (&self.seen, self.start, self.without == Without::SweepAge);
        let in_stretch = |key: &u8| self.stretches.iter().any(|(low, high)| (low..=high).contains(&key));
        if self.without != Without::Sweep {
            self.table.retain(|key, (_, at)| seen.contains(key) || in_stretch(key) || (*at >= start && !any_age));
        }
        self.swept = true;
    }

    /// What was in memory is gone; what was committed is not.
    fn kill(&mut self) {
        self.read = None;
        self.touched.clear();
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.u8(..13) {
            0..=2 => self.source.change(rng, true),
            3..=5 => self.apply_batch(rng),
            6..=7 => self.read_chunk(rng),
            8..=9 => self.write_chunk(),
            10 => self.sweep(),
            11 => self.leave_known_out(),
            _ => self.kill(),
        }
    }

    /// The source falls quiet, and everything is finished: is the table equal, and went no row back?
    fn ends_well(mut self, rng: &mut Rng) -> bool {
        while !self.swept {
            self.read_chunk(rng);
            self.leave_known_out();
            self.write_chunk();
            self.sweep();
        }
        while self.applied < self.source.log.len() {
            self.apply_batch(rng);
        }
        let rows: BTreeMap<u8, u32> = self.table.iter().map(|(key, (content, _))| (*key, *content)).collect();
        rows == self.source.documents && !self.regressed
    }
}

fn fails(without: Without, seed: u64) -> bool {
    let mut rng = Rng::with_seed(seed);
    let mut world = World::after_a_gap(&mut rng, without);
    (0..rng.usize(5..120)).for_each(|_| world.step(&mut rng));
    !world.ends_well(&mut rng)
}

#[test]
fn twenty_thousand_interleavings_converge() {
    for seed in 0..20_000 {
        assert!(!fails(Without::Nothing, seed), "seed {seed}");
    }
}

#[test]
fn with_any_safeguard_taken_out_some_interleaving_fails() {
    let safeguards = [
        Without::Sweep,
        Without::Guard,
        Without::EarlyStamp,
        Without::TouchedKeys,
        Without::SweepAge,
        Without::PlaceWithChunk,
        Without::SeenThoughKnown,
        Without::NothingElseInStretch,
    ];
    for without in safeguards {
        assert!(
            (0..20_000).any(|seed| fails(without, seed)),
            "{without:?} is not needed, or the model does not see it"
        );
    }
}
