//! Reads one chunk of a walk: finds are under way while what they found is asked about and encoded.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::block_in_place::block_in_place_if_many;
use super::care::{Care, InHand, letter, walk_place};
use super::context::{Context, retry};
use crate::apply::{Candidate, Checksums, Segment};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::model::step::Step;
use crate::resync::{Chunk, Fetched, Place, Reading};

/// A chunk grows no longer than this after it was begun, since a kill has all of it read anew.
const CHUNK_TIME: Duration = Duration::from_millis(500);

/// How many finds are under way at once, where the table tells how far each is to go.
const FINDS_AT_ONCE: usize = 3;

/// One chunk being read.
pub(super) struct Read {
    pub context: Context,
    pub reading: Reading,
    pub start: ClusterTime,
    pub checksums: Option<Checksums>,
    /// How many finds it may hold that are to be written.
    pub finds: u64,
    /// The writer waits for it.
    pub awaited: Arc<AtomicBool>,
    /// Of the walk.
    pub id: i64,
    /// Processes have died: one find, and what it found is written down before anything is made of
    /// it.
    pub care: Option<Care>,
}

/// A chunk that was read, and what it was read with.
pub(super) struct Answer {
    pub chunk: Chunk,
    /// Nothing in it is of a later time.
    pub read_until: ClusterTime,
    pub checksums: Option<Checksums>,
    pub care: Option<Care>,
    pub in_hand: Option<InHand>,
}

/// What one find is to read.
#[derive(Debug, Clone)]
struct Leg {
    from: Place,
    /// What the table has there, and the place it goes to.
    segment: Option<(Segment, Place)>,
}

impl Leg {
    fn end(&self) -> Option<&Place> {
        self.segment.as_ref().map(|(_, end)| end)
    }
}

impl Read {
    pub async fn run(mut self, mut chunk: Chunk, time_is_known: bool) -> Result<Answer, Fault> {
        if !time_is_known {
            let now = retry!(self.context, Step::Walk, self.context.source.now())?;
            self.reading.after = self.reading.after.max(now);
        }
        let (context, reading) = (self.context.clone(), self.reading.clone());
        let mut finds = Finds::new(move |leg| fetch(context.clone(), reading.clone(), leg));
        let begun = Instant::now();
        self.begin(&mut finds, &chunk, &chunk.place, 1).await?;
        if let Some(checksums) = &mut self.checksums {
            // A failure to connect is met again when the table is asked, and waited out there.
            let _ = checksums.open().await;
        }
        let mut in_hand = None;
        while let Some((leg, fetched)) = finds.next().await? {
            in_hand = self.take_in_hand(&chunk, &fetched).await?;
            if in_hand.as_ref().is_some_and(|in_hand: &InHand| in_hand.is_doomed) {
                chunk.set_aside(&fetched, letter);
                continue;
            }
            let hashes = self.checksums.is_some().then(|| self.hashes(&fetched));
            let segment = leg.segment.map(|(segment, _)| segment);
            let segment =
                segment.filter(|segment| hashes.as_ref().is_some_and(|hashes| segment.is(hashes)));
            let to_write = if self.is_mostly_known(&chunk) { 0 } else { fetched.followed() };
            let to_write = crate::model::count(to_write);
            let more = begun.elapsed() < CHUNK_TIME && self.may_grow(&chunk, &fetched, to_write);
            finds.go_on_from(&fetched.place);
            if more {
                let at_once = if segment.is_some() { FINDS_AT_ONCE } else { 1 };
                self.begin(&mut finds, &chunk, &fetched.place, at_once).await?;
            }
            match (segment, hashes) {
                (Some(segment), _) => chunk.pass(&fetched, segment),
                (None, Some(hashes)) => self.take_unknown(&mut chunk, fetched, &hashes).await?,
                (None, None) => {
                    let (mapping, at) = (&self.context.mapping, self.stamp(&fetched));
                    block_in_place_if_many(fetched.number, || chunk.take_all(fetched, mapping, at));
                }
            }
        }
        let (source, told) = (&self.context.source, chunk.operation_time);
        let read_until = retry!(self.context, Step::Walk, source.read_until(told))?;
        Ok(Answer { chunk, read_until, checksums: self.checksums, care: self.care, in_hand })
    }

    /// Quick, but where documents are redacted for it.
    fn hashes(&self, fetched: &Fetched) -> Vec<i64> {
        let mapping = &self.context.mapping;
        let slow = if mapping.redaction().is_none() { 0 } else { fetched.number };
        block_in_place_if_many(slow, || fetched.hashes(mapping))
    }

    /// Writes down what was found before anything is made of it, if the walk goes with care.
    async fn take_in_hand(
        &mut self,
        chunk: &Chunk,
        fetched: &Fetched,
    ) -> Result<Option<InHand>, Fault> {
        let Some(care) = self.care.as_mut() else { return Ok(None) };
        // What a filter leaves out counts as gone over: else the walk would come to what it lets
        // through, far on, in the smallest steps.
        let number = fetched.number;
        if fetched.followed() == 0 {
            care.step_on(number);
            return Ok(None);
        }
        let place = walk_place(self.id, chunk.place.class(), chunk.place.after());
        let first = fetched.first_key();
        retry!(self.context, Step::Walk, care.take(&place, &first, number, pending())).map(Some)
    }

    /// The time rows carry: of the read, but no earlier than the position that the live stream goes
    /// on from.
    fn stamp(&self, fetched: &Fetched) -> ClusterTime {
        fetched.read_at.max(self.start)
    }

    /// Begins finds from a place on, until so many are under way.
    async fn begin<F, Fut, T>(
        &mut self,
        finds: &mut Finds<F, T>,
        chunk: &Chunk,
        place: &Place,
        at_once: usize,
    ) -> Result<(), Fault>
    where
        F: Fn(Leg) -> Fut,
        Fut: Future<Output = Result<T, Fault>> + Send + 'static,
        T: Send + 'static,
    {
        let asks = self.is_mostly_known(chunk);
        let mut from = if finds.is_empty() { Some(place.clone()) } else { finds.end().cloned() };
        while finds.len() < at_once
            && let Some(place) = from
        {
            let segment = if asks { self.segment(&place).await? } else { None };
            finds.begin(Leg { from: place, segment });
            from = finds.end().cloned();
        }
        Ok(())
    }

    /// Where most documents have to be written, there is little to learn from the table.
    const fn is_mostly_known(&self, chunk: &Chunk) -> bool {
        self.checksums.is_some() && (chunk.known + chunk.left_out) * 2 >= chunk.documents
    }

    /// What the table has after a place, and where that ends, if the source can be asked for just
    /// that.
    async fn segment(&mut self, place: &Place) -> Result<Option<(Segment, Place)>, Fault> {
        let Some(checksums) = &mut self.checksums else { return Ok(None) };
        let Some(row) = place.row() else { return Ok(None) };
        // Some documents more than rows still fit into one find.
        let rows = self.reading.documents_max - self.reading.documents_max / 10;
        let segment = retry!(self.context, Step::Walk, checksums.segment(&row, rows))?;
        Ok(segment.and_then(|segment| {
            let end = place.at_row(&segment.last)?;
            Some((segment, end))
        }))
    }

    /// Encodes what the table does not have as it is; the rest has been seen.
    async fn take_unknown(
        &mut self,
        chunk: &mut Chunk,
        fetched: Fetched,
        hashes: &[i64],
    ) -> Result<(), Fault> {
        let (mapping, at) = (&self.context.mapping, self.stamp(&fetched));
        let Some(checksums) = &mut self.checksums else { return Ok(()) };
        let ids = fetched.ids();
        let asked = ids.iter().zip(hashes).enumerate();
        let asked: Vec<Candidate<'_>> = asked
            .filter_map(|(place, (id, hash))| Some((place, id.as_deref().ok()?, *hash)))
            .collect();
        let due = retry!(self.context, Step::Walk, checksums.unknown(&asked))?;
        block_in_place_if_many(due.len(), || chunk.take(fetched, ids, &due, mapping, at));
        Ok(())
    }

    /// Whether more may be read into the chunk. What is to be written does not keep a writer
    /// waiting that has nothing else to do.
    fn may_grow(&self, chunk: &Chunk, fetched: &Fetched, to_write: u64) -> bool {
        let resync = &self.context.settings.resync;
        let finds = if self.awaited.load(Ordering::Relaxed) { 1 } else { self.finds };
        let at_once = if self.checksums.is_some() { FINDS_AT_ONCE } else { 1 };
        self.care.is_none()
            && resync.documents_per_second_max == 0
            && !fetched.place.is_end()
            && chunk.documents - chunk.known - chunk.left_out + to_write
                < crate::model::count(resync.chunk_documents) * finds
            && chunk.size() + at_once * fetched.bytes < self.reading.bytes_max
    }
}

/// Finds under way, in the order of the walk.
struct Finds<F, T> {
    find: F,
    under_way: VecDeque<(Leg, AbortOnDropHandle<Result<T, Fault>>)>,
}

impl<F, Fut, T> Finds<F, T>
where
    F: Fn(Leg) -> Fut,
    Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    T: Send + 'static,
{
    const fn new(find: F) -> Self {
        Self { find, under_way: VecDeque::new() }
    }

    fn len(&self) -> usize {
        self.under_way.len()
    }

    fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Where the last of them is to end, if that can be told.
    fn end(&self) -> Option<&Place> {
        self.under_way.back().and_then(|(leg, _)| leg.end())
    }

    fn begin(&mut self, leg: Leg) {
        let task = tokio::spawn((self.find)(leg.clone()));
        self.under_way.push_back((leg, AbortOnDropHandle::new(task)));
    }

    /// What the first of them found; `None` if none is under way.
    async fn next(&mut self) -> Result<Option<(Leg, T)>, Fault> {
        let Some((leg, task)) = self.under_way.pop_front() else { return Ok(None) };
        let bug = || Fault::bug("the task that fetches documents ended without a word");
        Ok(Some((leg, task.await.unwrap_or_else(|_| Err(bug()))?)))
    }

    /// Gives up what was begun elsewhere: the walk has come to this place, not to where it was to
    /// end.
    fn go_on_from(&mut self, place: &Place) {
        if self.under_way.front().is_some_and(|(leg, _)| leg.from != *place) {
            self.under_way.clear();
        }
    }
}

/// Fetches what one find is to read, over as many tries as it takes.
async fn fetch(context: Context, reading: Reading, leg: Leg) -> Result<Fetched, Fault> {
    let (source, end) = (&context.source, leg.end());
    retry!(context, Step::Walk, Fetched::after(leg.from.clone(), end, source, &reading))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(after: u8) -> Place {
        Place::restore(0, Some(vec![after]))
    }

    fn leg(from: u8, end: u8) -> Leg {
        let segment = Segment { first: String::new(), last: String::new(), rows: 0, hashes: 0 };
        Leg { from: place(from), segment: Some((segment, place(end))) }
    }

    #[tokio::test]
    async fn what_was_begun_where_the_walk_does_not_come_to_is_not_taken_for_what_comes_next() {
        let mut finds = Finds::new(async |leg: Leg| Ok(leg.from));
        finds.begin(leg(0, 10));
        finds.begin(leg(10, 20));
        assert_eq!(finds.end(), Some(&place(20)));
        assert_eq!(finds.next().await.unwrap().unwrap().1, place(0));
        finds.go_on_from(&place(10));
        assert_eq!(
            finds.next().await.unwrap().unwrap().1,
            place(10),
            "it ended where the next had begun"
        );
        finds.begin(leg(20, 30));
        finds.begin(leg(30, 40));
        finds.next().await.unwrap().unwrap();
        // It ended at 25: what was begun from 30 would leave out what lies between.
        finds.go_on_from(&place(25));
        assert!(finds.is_empty());
        assert!(finds.next().await.unwrap().is_none());
    }
}
