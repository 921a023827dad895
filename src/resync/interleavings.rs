//! The walk beside the live stream, as a model: thousands of interleavings of changes, batches, chunks, kills and the
//! sweep must end with the table equal to the source and no row gone back in cluster time; and with any one safeguard
//! taken out, some must not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// A stretch of the table may hold rows that the find did not find.
    NothingElseInStretch,
    /// What one find found is followed by what another did, wherever that one began.
    OneLine,
}

/// Few enough that a document is often again what it was before.
const CONTENTS: u32 = 4;

const KEYS: u8 = 12;
/// Documents a find finds at most.
const FIND: usize = 3;

type Time = u64;

/// A key and its content.
type Row = (u8, u32);

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

/// One find of the chunk being read.
struct Find {
    from: Option<u8>,
    /// What the table had next when it was asked, before the find: the find goes as far as its last key.
    there: Vec<Row>,
    answer: Option<Answer>,
}

struct Answer {
    rows: Vec<Row>,
    place: Option<u8>,
    end: bool,
}

impl Find {
    fn ask(&mut self, source: &Source) {
        let found = |high: u8| {
            let rest = source.documents.iter().filter(|(key, _)| self.from.is_none_or(|from| **key > from));
            let rows = rest.filter(|(key, _)| **key <= high).take(FIND).map(|(key, content)| (*key, *content));
            rows.collect::<Vec<Row>>()
        };
        let last = self.there.last().map(|(key, _)| *key);
        let rows = last.map(found).unwrap_or_default();
        let answer = if rows.is_empty() {
            let rows = found(KEYS);
            Answer { place: rows.last().map(|(key, _)| *key), end: rows.len() < FIND, rows }
        } else if rows.len() < FIND {
            Answer { rows, place: last, end: false }
        } else {
            Answer { place: rows.last().map(|(key, _)| *key), end: false, rows }
        };
        self.answer = Some(answer);
    }
}

/// What is read of the source for one transaction.
#[derive(Default)]
struct Chunk {
    rows: Vec<Row>,
    seen: Vec<u8>,
    /// Instead of the keys seen: from one to another the table had just what was found.
    stretches: Vec<(u8, u8)>,
    stamp: Time,
    place: Option<u8>,
    end: bool,
    /// Under way, in the order of the walk.
    finds: VecDeque<Find>,
    /// Something was taken.
    taken: bool,
}

impl Chunk {
    fn is_read(&self) -> bool {
        self.taken && self.finds.is_empty()
    }
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
    /// In memory: the chunk being read, and the keys written live since its read began.
    chunk: Option<Chunk>,
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
            chunk: None,
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

    /// Begins to read a chunk. Its stamp is taken first.
    fn begin_chunk(&mut self) {
        if self.chunk.is_none() && !self.walked {
            self.touched.clear();
            self.chunk = Some(Chunk { stamp: self.source.now, place: self.after, ..Chunk::default() });
        }
    }

    /// Begins a find, where the one before it is to end if one is under way; the table may be asked what it has there.
    fn begin_find(&mut self, rng: &mut Rng) {
        let Some(chunk) = self.chunk.as_mut().filter(|chunk| !chunk.end && chunk.finds.len() < 3) else { return };
        let from = match chunk.finds.back().map(|find| find.there.last()) {
            None => chunk.place,
            Some(Some((last, _))) => Some(*last),
            Some(None) => return,
        };
        let rest = self.table.iter().filter(|(key, _)| from.is_none_or(|from| **key > from));
        let rows = rng.usize(..=FIND);
        let there = rest.take(rows).map(|(key, (content, _))| (*key, *content)).collect();
        chunk.finds.push_back(Find { from, there, answer: None });
    }

    /// The source answers one of the finds under way, in no order.
    fn answer_find(&mut self, rng: &mut Rng) {
        let Some(chunk) = &mut self.chunk else { return };
        let mut open: Vec<&mut Find> = chunk.finds.iter_mut().filter(|find| find.answer.is_none()).collect();
        if let Some(index) = (!open.is_empty()).then(|| rng.usize(..open.len()))
            && let Some(find) = open.get_mut(index)
        {
            find.ask(&self.source);
        }
    }

    /// Takes what the first find found into the chunk, and leaves out of it what the table has.
    fn take_find(&mut self, rng: &mut Rng) {
        let Some(chunk) = &mut self.chunk else { return };
        let Some(find) = chunk.finds.pop_front_if(|find| find.answer.is_some()) else { return };
        let Some(answer) = find.answer else { return };
        (chunk.taken, chunk.place, chunk.end) = (true, answer.place.or(chunk.place), answer.end);
        if chunk.finds.front().is_some_and(|next| next.from != chunk.place) && self.without != Without::OneLine {
            chunk.finds.clear();
        }
        let is_stretch = if self.without == Without::NothingElseInStretch {
            answer.rows.iter().all(|row| find.there.contains(row))
        } else {
            find.there == answer.rows
        };
        match (find.there.first(), find.there.last()) {
            (Some((low, _)), Some((high, _))) if is_stretch => chunk.stretches.push((*low, *high)),
            _ => {
                let asks = rng.bool();
                let (table, forgets) = (&self.table, self.without == Without::SeenThoughKnown);
                let is_known = |(key, content): &Row| asks && table.get(key).is_some_and(|(has, _)| has == content);
                let seen = answer.rows.iter().filter(|row| !forgets || !is_known(row));
                chunk.seen.extend(seen.map(|(key, _)| *key));
                chunk.rows.extend(answer.rows.iter().filter(|row| !is_known(row)));
            }
        }
        if chunk.is_read() && self.without == Without::EarlyStamp {
            chunk.stamp = self.source.now;
        }
        if chunk.is_read() && self.without == Without::PlaceWithChunk {
            (self.after, self.walked) = (chunk.place, chunk.end);
        }
    }

    /// Writes the chunk that was read, while the next is being read already.
    fn write_chunk(&mut self, rng: &mut Rng) {
        let Some(mut chunk) = self.chunk.take_if(|chunk| chunk.is_read()) else { return };
        if self.without != Without::TouchedKeys {
            chunk.rows.retain(|(key, _)| !self.touched.contains(key));
        }
        if !chunk.end {
            self.touched.clear();
            self.chunk = Some(Chunk { stamp: self.source.now, place: chunk.place, ..Chunk::default() });
            (0..rng.usize(..6)).for_each(|_| self.read_on(rng));
        }
        for (key, content) in &chunk.rows {
            self.write(*key, *content, chunk.stamp);
        }
        self.seen.extend(&chunk.seen);
        self.stretches.extend(&chunk.stretches);
        (self.after, self.walked) = (chunk.place, chunk.end);
    }

    fn read_on(&mut self, rng: &mut Rng) {
        match rng.u8(..4) {
            0 => self.source.change(rng, true),
            1 => self.begin_find(rng),
            2 => self.answer_find(rng),
            _ => self.take_find(rng),
        }
    }

    fn sweep(&mut self) {
        if !self.walked || self.swept {
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
        self.chunk = None;
        self.touched.clear();
    }

    fn step(&mut self, rng: &mut Rng) {
        match rng.u8(..17) {
            0..=2 => self.source.change(rng, true),
            3..=5 => self.apply_batch(rng),
            6 => self.begin_chunk(),
            7..=13 => self.read_on(rng),
            14 => self.write_chunk(rng),
            15 => self.sweep(),
            _ => self.kill(),
        }
    }

    /// The source falls quiet, and everything is finished: is the table equal, and went no row back?
    fn ends_well(mut self, rng: &mut Rng) -> bool {
        while !self.swept {
            self.begin_chunk();
            self.begin_find(rng);
            self.answer_find(rng);
            self.take_find(rng);
            self.write_chunk(rng);
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
        Without::OneLine,
    ];
    for without in safeguards {
        assert!(
            (0..20_000).any(|seed| fails(without, seed)),
            "{without:?} is not needed, or the model does not see it"
        );
    }
}
