//! Reads one chunk of a walk: finds are under way while what they found is asked about and encoded.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::OptionFuture;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Context, compute, wait_or_give_up};
use crate::apply::{Known, Suspect};
use crate::error::Fault;
use crate::model::position::ClusterTime;
use crate::resync::{Chunk, DocumentId, Fetched, Place, Reading};
use crate::retry::Backoff;

/// Nothing is added to a chunk that was begun so long ago: this much is read anew after a kill.
const CHUNK_TIME: Duration = Duration::from_millis(500);

/// One chunk being read.
pub(super) struct Read {
    pub context: Context,
    pub reading: Reading,
    pub start: ClusterTime,
    pub known: Option<Known>,
    /// How many finds it may hold.
    pub finds: u64,
}

impl Read {
    pub async fn run(mut self, mut chunk: Chunk, time_is_known: bool) -> Result<(Chunk, Option<Known>), Fault> {
        if !time_is_known {
            self.reading.after = now(&self.context).await?;
        }
        let (context, reading) = (self.context.clone(), self.reading.clone());
        let mut finds = Finds::new(|place| fetch(context.clone(), reading.clone(), place));
        let begun = Instant::now();
        loop {
            let fetched = finds.from(chunk.place.clone()).await?;
            let more = begun.elapsed() < CHUNK_TIME && self.may_grow(&chunk, &fetched);
            if more {
                finds.begin(fetched.place.clone());
            }
            let guess = async |place: &Place| reading.guess_end(place, &context.source).await;
            let ahead = (more && self.may_overlap(&chunk, &fetched)).then(|| finds.begin_one_more(guess));
            let (taken, _) = tokio::join!(self.take(&mut chunk, fetched), OptionFuture::from(ahead));
            taken?;
            if !more {
                return Ok((chunk, self.known));
            }
        }
    }

    /// Encodes what must be written, as far as is known; the rest has been seen.
    async fn take(&mut self, chunk: &mut Chunk, fetched: Fetched) -> Result<(), Fault> {
        let (mapping, time) = (&self.context.mapping, self.reading.after.max(self.start));
        let Some(known) = &mut self.known else {
            compute(fetched.number, || chunk.take_all(fetched, mapping, time));
            return Ok(());
        };
        let hashes = fetched.hashes(mapping);
        let mut backoff = Backoff::new(self.context.settings.retry);
        let told = loop {
            match tell(known, &fetched, &hashes).await {
                Ok(told) => break told,
                Err(fault) => wait_or_give_up(&self.context, "walk", &mut backoff, fault).await?,
            }
        };
        match told {
            Told::Stretch { low, high } => chunk.pass(&fetched, low, high),
            Told::Unknown { ids, due } => compute(due.len(), || chunk.take(fetched, ids, &due, mapping, time)),
        }
        Ok(())
    }

    fn may_grow(&self, chunk: &Chunk, fetched: &Fetched) -> bool {
        let resync = &self.context.settings.resync;
        let to_write = chunk.documents - chunk.known + fetched.count();
        resync.documents_per_second_max == 0
            && !fetched.place.is_end()
            && to_write < crate::status::count(resync.chunk_documents) * self.finds
            && chunk.size() + fetched.bytes < self.reading.bytes_max
    }

    /// Where most documents are known already, the source is what is waited for: it is asked for two parts at once, if
    /// the chunk has room for both.
    fn may_overlap(&self, chunk: &Chunk, fetched: &Fetched) -> bool {
        chunk.known > chunk.documents / 2 && chunk.size() + 2 * fetched.bytes < self.reading.bytes_max
    }
}

/// What the table has of the documents fetched.
enum Told {
    /// From one id to the other just them.
    Stretch { low: String, high: String },
    /// All but those at the places in `due`.
    Unknown { ids: Vec<DocumentId>, due: Vec<usize> },
}

async fn tell(known: &mut Known, fetched: &Fetched, hashes: &[i64]) -> Result<Told, Fault> {
    if let Some((low, high)) = fetched.ends()
        && known.is_stretch(&low, &high, hashes).await?
    {
        return Ok(Told::Stretch { low, high });
    }
    let ids = fetched.ids();
    let asked = ids.iter().zip(hashes).enumerate();
    let asked: Vec<Suspect<'_>> =
        asked.filter_map(|(place, (id, hash))| Some((place, id.as_deref().ok()?, *hash))).collect();
    let due = known.unknown(&asked).await?;
    Ok(Told::Unknown { ids, due })
}

/// Finds under way, in the order of the walk.
struct Finds<F, T> {
    /// Finds on from a place.
    find: F,
    /// Each with the place it goes on from.
    under_way: VecDeque<(Place, AbortOnDropHandle<Result<T, Fault>>)>,
}

impl<F, Fut, T> Finds<F, T>
where
    F: Fn(Place) -> Fut,
    Fut: Future<Output = Result<T, Fault>> + Send + 'static,
    T: Send + 'static,
{
    const fn new(find: F) -> Self {
        Self { find, under_way: VecDeque::new() }
    }

    /// What is found from a place on, whatever was guessed before.
    async fn from(&mut self, place: Place) -> Result<T, Fault> {
        self.begin(place);
        let bug = || Fault::bug("the task that fetches documents ended without a word");
        let (_, task) = self.under_way.pop_front().ok_or_else(bug)?;
        task.await.unwrap_or_else(|_| Err(bug()))
    }

    /// Begins a find from a place on, unless it is under way. What was begun on a wrong guess is given up.
    fn begin(&mut self, place: Place) {
        if self.under_way.front().is_none_or(|(from, _)| *from != place) {
            self.under_way.clear();
            self.spawn(place);
        }
    }

    /// Begins the find after the only one under way, from where it is guessed that one will end.
    async fn begin_one_more(&mut self, guess: impl AsyncFnOnce(&Place) -> Option<Place>) {
        if let [(place, _)] = self.under_way.make_contiguous()
            && let Some(end) = guess(place).await
        {
            self.spawn(end);
        }
    }

    fn spawn(&mut self, place: Place) {
        let task = tokio::spawn((self.find)(place.clone()));
        self.under_way.push_back((place, AbortOnDropHandle::new(task)));
    }
}

/// Over as many attempts as it takes.
async fn fetch(context: Context, reading: Reading, place: Place) -> Result<Fetched, Fault> {
    let mut backoff = Backoff::new(context.settings.retry);
    loop {
        match Fetched::after(place.clone(), &context.source, &reading).await {
            Ok(fetched) => return Ok(fetched),
            Err(fault) => wait_or_give_up(&context, "walk", &mut backoff, fault).await?,
        }
    }
}

/// The source's time, over as many attempts as it takes.
async fn now(context: &Context) -> Result<ClusterTime, Fault> {
    let mut backoff = Backoff::new(context.settings.retry);
    loop {
        match context.source.now().await {
            Ok(now) => return Ok(now),
            Err(fault) => wait_or_give_up(context, "walk", &mut backoff, fault).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(after: u8) -> Place {
        Place::restore(0, Some(vec![after]))
    }

    #[tokio::test]
    async fn what_was_begun_on_a_wrong_guess_is_not_taken_for_what_comes_next() {
        // Finds nothing but the place it begins at.
        let mut finds = Finds::new(async |from: Place| Ok(from));
        assert_eq!(finds.from(place(0)).await.unwrap(), place(0));
        finds.begin(place(10));
        finds.begin_one_more(async |from| (*from == place(10)).then(|| place(20))).await;
        finds.begin_one_more(async |_| Some(place(30))).await;
        assert_eq!(finds.under_way.len(), 2, "one under way, one ahead of it");
        assert_eq!(finds.from(place(10)).await.unwrap(), place(10));
        // It ended at 15: what was begun from 20 would leave out what lies between.
        assert_eq!(finds.from(place(15)).await.unwrap(), place(15));
        assert!(finds.under_way.is_empty());
        // A right guess is used: it is under way already.
        finds.begin(place(20));
        finds.begin_one_more(async |_| Some(place(30))).await;
        assert_eq!(finds.from(place(20)).await.unwrap(), place(20));
        finds.begin(place(30));
        assert_eq!(finds.under_way.len(), 1);
        assert_eq!(finds.from(place(30)).await.unwrap(), place(30));
    }
}
