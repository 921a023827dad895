//! The model's walks of a group's tables: chunks beside the live stream, and the sweep.

use fastrand::Rng;

use super::group_safeguard::Omitted;
use super::model_group::{GroupWorld, TableChunk};

/// Keys that a find looks at.
const KEYS_A_FIND: u8 = 2;

impl GroupWorld {
    /// Begins to read the next chunk of a table's walk.
    pub(super) fn begin_table_chunk(&mut self, table: usize) {
        let walk = self.stored.tables.get(table).filter(|stored| !stored.is_parked);
        let walk = walk.and_then(|stored| stored.walk.as_ref()).filter(|walk| !walk.is_walked());
        if let (Some(walk), Some(chunk @ None), Some(touched)) =
            (walk, self.chunks.get_mut(table), self.touched.get_mut(table))
        {
            touched.clear();
            *chunk = Some(TableChunk { from: walk.from, answers: [None, None] });
        }
    }

    /// The source answers one of its finds, in no order, with what there is.
    pub(super) fn answer_table_find(&mut self, table: usize, rng: &mut Rng) {
        let now = self.ledger.now();
        let (_, state) = self.ledger.read(now);
        let Some(chunk) = self.chunks.get_mut(table).and_then(Option::as_mut) else { return };
        let place = rng.u8(..2);
        let from = chunk.from + place * KEYS_A_FIND;
        let there = state.get(table).map(|amounts| amounts.range(from..from + KEYS_A_FIND));
        if let Some(answer @ None) = chunk.answers.get_mut(usize::from(place)) {
            let found = there.into_iter().flatten().map(|(key, amount)| (*key, *amount));
            *answer = Some((now, found.collect()));
        }
    }

    /// Writes the chunk once it is read: but not what was written live since then.
    pub(super) fn write_table_chunk(&mut self, table: usize) {
        if !self.knows() {
            return;
        }
        let Some(chunk) = self.chunks.get_mut(table) else { return };
        let Some(TableChunk { from, answers: [Some(one), Some(other)] }) =
            chunk.take_if(|chunk| chunk.answers.iter().all(Option::is_some))
        else {
            return;
        };
        let until = if self.omitted == Omitted::NewestFind { other.0 } else { one.0.max(other.0) };
        let touched = self.touched.get(table).cloned().unwrap_or_default();
        for (at, found) in [one, other] {
            for (key, amount) in found {
                if !touched.contains(&key) {
                    self.write(table, key, amount, at);
                }
                let stored = self.stored.tables.get_mut(table);
                if let Some(walk) = stored.and_then(|stored| stored.walk.as_mut()) {
                    walk.seen.insert(key);
                }
            }
        }
        let stored = self.stored.tables.get_mut(table);
        if let Some(walk) = stored.and_then(|stored| stored.walk.as_mut()) {
            walk.read_until = walk.read_until.max(until);
            walk.from = from + 2 * KEYS_A_FIND;
        }
        self.commit();
    }

    /// Deletes what the walk did not see and the source does not have, and ends the walk.
    pub(super) fn sweep_table(&mut self, table: usize) {
        if !self.knows() {
            return;
        }
        let now = self.ledger.now();
        let (_, state) = self.ledger.read(now);
        let (Some(stored), Some(there)) = (self.stored.tables.get_mut(table), state.get(table))
        else {
            return;
        };
        if stored.is_parked {
            return;
        }
        let Some(walk) = stored.walk.take_if(|walk| walk.is_walked()) else { return };
        let is_unseen = |key: &u8, stamp| !walk.seen.contains(key) && stamp < walk.start;
        let asks = stored.rows.iter().any(|(key, (_, stamp))| is_unseen(key, *stamp));
        let is_gone = |key: &u8, stamp| is_unseen(key, stamp) && !there.contains_key(key);
        stored.rows.retain(|key, (_, stamp)| !is_gone(key, *stamp));
        stored.ahead = match self.omitted {
            Omitted::Walked => walk.start,
            omitted if asks && omitted != Omitted::Swept => walk.read_until.max(now),
            _ => walk.read_until,
        };
        stored.is_blind = false;
        self.commit();
    }
}
