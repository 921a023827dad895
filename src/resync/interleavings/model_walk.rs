//! The model's walk: finds under way, chunks, the sweep, and a person's word about it.

use fastrand::Rng;

use super::memory::{Chunk, Find, Sweep};
use super::model_source::{Content, FIND};
use super::safeguard::Without;
use super::world::World;

/// More rows than this are swept only if a person says so.
const SWEPT_UNASKED: usize = 3;

impl World {
    /// Begins to read a chunk.
    pub(super) fn begin_chunk(&mut self) {
        if self.chunk.is_none() && self.stored.walks() && !self.halted {
            self.touched.clear();
            self.chunk = Some(Chunk { place: self.stored.after, ..Chunk::default() });
        }
    }

    /// Begins a find, where the one before it is to end if one is under way; the table may be asked
    /// what it has there.
    pub(super) fn begin_find(&mut self, rng: &mut Rng) {
        let Some(chunk) = self.chunk.as_mut().filter(|chunk| !chunk.end && chunk.finds.len() < 3)
        else {
            return;
        };
        let from = match chunk.finds.back().map(|find| find.there.last()) {
            None => chunk.place,
            Some(Some((last, _))) => Some(*last),
            Some(None) => return,
        };
        let rest = self.stored.table.iter().filter(|(key, _)| from.is_none_or(|from| **key > from));
        let there = rest.take(rng.usize(..=FIND)).map(|(key, row)| (*key, row.value)).collect();
        chunk.finds.push_back(Find { from, there, answer: None });
    }

    /// The source answers one of the finds under way, in no order.
    pub(super) fn answer_find(&mut self, rng: &mut Rng) {
        let Some(chunk) = &mut self.chunk else { return };
        let mut open: Vec<&mut Find> =
            chunk.finds.iter_mut().filter(|find| find.answer.is_none()).collect();
        if let Some(index) = (!open.is_empty()).then(|| rng.usize(..open.len()))
            && let Some(find) = open.get_mut(index)
        {
            let mut answer = self.source.find(find.from, find.there.last().map(|(key, _)| *key));
            if self.overlooks {
                answer.rows.retain(|_| rng.u8(..4) > 0);
            }
            find.answer = Some(answer);
        }
    }

    /// Takes what the first find found into the chunk, and leaves out of it what the table has.
    pub(super) fn take_find(&mut self, rng: &mut Rng) {
        let Some(chunk) = &mut self.chunk else { return };
        let Some(find) = chunk.finds.pop_front_if(|find| find.answer.is_some()) else { return };
        let Some(answer) = find.answer else { return };
        (chunk.taken, chunk.place, chunk.end) = (true, answer.place.or(chunk.place), answer.end);
        if chunk.finds.front().is_some_and(|next| next.from != chunk.place)
            && self.without != Without::OneLine
        {
            chunk.finds.clear();
        }
        let found: Vec<(u8, u32)> =
            answer.rows.iter().map(|(key, content)| (*key, content.value)).collect();
        let is_segment = if self.without == Without::NothingElseInSegment {
            found.iter().all(|row| find.there.contains(row))
        } else {
            find.there == found
        };
        match (find.there.first(), find.there.last()) {
            (Some((low, _)), Some((high, _))) if is_segment => chunk.segments.push((*low, *high)),
            _ => {
                let asks = rng.bool();
                let (table, forgets) =
                    (&self.stored.table, self.without == Without::SeenThoughKnown);
                let is_known = |key: u8, content: &Content| {
                    asks && table.get(&key).is_some_and(|has| has.value == content.value)
                };
                let seen = answer
                    .rows
                    .iter()
                    .filter(|(key, content)| !forgets || !is_known(*key, content));
                chunk.seen.extend(seen.map(|(key, _)| *key));
                let rows = answer.rows.iter().filter(|(key, content)| !is_known(*key, content));
                chunk.rows.extend(rows.map(|(key, content)| (*key, *content, answer.at)));
            }
        }
        if chunk.is_read() && self.without == Without::PlaceWithChunk {
            (self.stored.after, self.stored.walked) = (chunk.place, chunk.end);
        }
    }

    /// Writes the chunk that was read, while the next is being read already.
    pub(super) fn write_chunk(&mut self, rng: &mut Rng) {
        if !self.knows() {
            return;
        }
        let Some(mut chunk) = self.chunk.take_if(|chunk| chunk.is_read()) else { return };
        if self.without != Without::TouchedKeys {
            chunk.rows.retain(|(key, ..)| !self.touched.contains(key));
        }
        if !chunk.end {
            self.touched.clear();
            self.chunk = Some(Chunk { place: chunk.place, ..Chunk::default() });
            (0..rng.usize(..6)).for_each(|_| self.read_on(rng));
        }
        for (key, content, at) in &chunk.rows {
            let at = if self.without == Without::EarlyStamp { self.source.now } else { *at };
            self.write(*key, *content, at);
        }
        self.stored.seen.extend(&chunk.seen);
        self.stored.segments.extend(&chunk.segments);
        (self.stored.after, self.stored.walked) = (chunk.place, chunk.end);
        self.commit();
    }

    pub(super) fn read_on(&mut self, rng: &mut Rng) {
        match rng.u8(..4) {
            0 => self.source.change(rng, true),
            1 => self.begin_find(rng),
            2 => self.answer_find(rng),
            _ => self.take_find(rng),
        }
    }

    /// Finds what the walk did not see, and asks a person if it is much.
    pub(super) fn search(&mut self) {
        if !self.stored.sweeps() || self.halted || self.sweep.is_some() || !self.knows() {
            return;
        }
        if self.source.log.get(self.stored.applied).is_some_and(|event| self.is_of_before(event))
            && self.without != Without::SweepInTurn
        {
            return;
        }
        let found = if self.without == Without::Sweep { Vec::new() } else { self.unseen() };
        if found.len() > self.stored.approved.unwrap_or(SWEPT_UNASKED) {
            self.stored.held = Some(found.len());
            self.commit();
        } else {
            self.sweep = Some(Sweep { found, part: Vec::new() });
        }
    }

    /// The rows the walk did not see, older than its start.
    fn unseen(&self) -> Vec<u8> {
        let (stored, any_age) = (&self.stored, self.without == Without::SweepAge);
        let in_segment =
            |key: &u8| stored.segments.iter().any(|(low, high)| (low..=high).contains(&key));
        let rows = stored.table.iter().filter(|(key, row)| {
            !stored.seen.contains(key) && !in_segment(key) && (row.stamp < stored.start || any_age)
        });
        rows.map(|(key, _)| *key).collect()
    }

    /// Asks the source for the next rows to be deleted: what it has is left.
    pub(super) fn ask(&mut self) {
        if !self.is_walked_collection() {
            return;
        }
        let Some(sweep) = self.sweep.as_mut().filter(|sweep| sweep.part.is_empty()) else { return };
        let next = sweep.found.len().saturating_sub(2);
        self.swept_blindly |=
            self.source.collection != Some(self.stored.collection) && next < sweep.found.len();
        let lives = |key: u8| (key, self.source.documents.contains_key(&key));
        sweep.part = sweep.found.split_off(next).into_iter().map(lives).collect();
        if self.asks {
            sweep.part.retain(|(_, lives)| !lives);
        }
    }

    /// Deletes them, but for what was seen since; and ends the walk after the last.
    pub(super) fn delete(&mut self) {
        if !self.knows() {
            return;
        }
        let Some(sweep) = &mut self.sweep else { return };
        for (key, lives) in std::mem::take(&mut sweep.part) {
            let old = self.stored.table.get(&key).is_some_and(|row| row.stamp < self.stored.start);
            let is_swept =
                (old || self.without == Without::SweepAge) && !self.stored.seen.contains(&key);
            if is_swept && self.stored.table.remove(&key).is_some() {
                self.swept_alive |= lives;
            }
        }
        if sweep.found.is_empty() {
            (self.stored.ended, self.sweep) = (true, None);
        }
        self.commit();
    }

    /// A person says that a held sweep may delete as much as it said it would.
    pub(super) fn person(&mut self, rng: &mut Rng) {
        match self.stored.held {
            Some(number) if rng.bool() => {
                (self.stored.approved, self.stored.held) = (Some(number), None);
                self.sweep = None;
                self.commit();
            }
            _ => {}
        }
    }

    fn is_walked_collection(&self) -> bool {
        self.source.collection == Some(self.stored.collection)
            || self.without == Without::SameCollection
    }
}
