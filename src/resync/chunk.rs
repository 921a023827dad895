//! One chunk: read from the source and encoded, ready for the writer.

use crate::apply::{ChunkSeen, DeadLetter, Drift, Mapping, Rows, Segment};
use crate::error::Fault;
use crate::model::bson::{Builder, Doc, Value};
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::filter::Filter;
use crate::model::position::ClusterTime;
use crate::model::redaction::Evidence;
use crate::model::value::{Unwritable, encode_id};
use crate::source::{Reply, Source};

use super::place::Place;

/// What a chunk is read from, within which limits, and how new it must be.
#[derive(Debug, Clone)]
pub struct Reading {
    pub collection: String,
    /// Those that it does not let through are as if they were not there.
    pub filter: Option<Filter>,
    pub documents_max: usize,
    pub bytes_max: usize,
    /// A time whose effects the read must see.
    pub after: ClusterTime,
}

/// Documents read, as rows.
#[derive(Debug)]
pub struct Chunk {
    pub rows: Rows,
    pub dead: Vec<DeadLetter>,
    pub drift: Drift,
    pub documents: u64,
    /// Of them, those that were left out because the table has them.
    pub known: u64,
    /// Of them, those that are not followed.
    pub left_out: u64,
    /// Where the walk goes on.
    pub place: Place,
    /// The majority commit point when the chunk had been read.
    pub operation_time: Option<ClusterTime>,
    /// The bytes of the documents that rows were made of, for a row that turns out not to be
    /// storable. A row's origin counts through them.
    pub replies: Vec<Reply>,
    /// Documents in the replies.
    kept: usize,
    /// All documents read, also those that cannot be stored; kept only where a sweep follows.
    pub seen: Option<ChunkSeen>,
}

impl Chunk {
    /// Nothing read yet.
    pub fn at(place: Place, keep_seen: bool) -> Self {
        Self {
            seen: keep_seen.then(ChunkSeen::default),
            rows: Rows::default(),
            dead: Vec::new(),
            drift: Drift::default(),
            documents: 0,
            known: 0,
            left_out: 0,
            place,
            operation_time: None,
            replies: Vec::new(),
            kept: 0,
        }
    }

    /// Encodes into these rows' memory.
    #[must_use]
    pub fn with_buffer(mut self, rows: Rows) -> Self {
        self.rows = rows;
        self
    }

    /// Reads on from the chunk's place: one find that answers anything, or the end of the walk. On
    /// an error the chunk is as it was.
    pub async fn read(
        &mut self,
        source: &Source,
        mapping: &Mapping,
        reading: &Reading,
    ) -> Result<(), Fault> {
        let fetched = Fetched::after(self.place.clone(), None, source, reading).await?;
        let at = fetched.read_at;
        self.take_all(fetched, mapping, at);
        Ok(())
    }

    /// Bytes held: of rows, and of the documents they were made of.
    pub fn size(&self) -> usize {
        self.rows.size() + self.replies.iter().map(Reply::size).sum::<usize>()
    }

    /// Takes what was fetched, and encodes all of it.
    pub fn take_all(&mut self, fetched: Fetched, mapping: &Mapping, at: ClusterTime) {
        let ids = fetched.ids();
        let all: Vec<usize> = (0..ids.len()).collect();
        self.take(fetched, ids, &all, mapping, at);
    }

    /// Takes what was fetched, and encodes what is at the places in `due`, which ascend. `at` is
    /// the time its rows will carry: of the read, never later.
    pub fn take(
        &mut self,
        fetched: Fetched,
        ids: Vec<DocumentId>,
        due: &[usize],
        mapping: &Mapping,
        at: ClusterTime,
    ) {
        let mut due = due.iter().copied().peekable();
        let is_kept = due.peek().is_some();
        for (index, ((place, document), id)) in fetched.documents().zip(ids).enumerate() {
            let is_due = due.next_if_eq(&index).is_some();
            let unreadable = |error| (DeadLetterCode::Malformed, error);
            let taken = id.map_err(unreadable).and_then(|id| {
                let encoded = if is_due {
                    let origin = self.kept + place;
                    Doc::new(document)
                        .map_err(Unwritable::from)
                        .and_then(|doc| {
                            mapping.encode(&id, doc, at, origin, &mut self.rows, &mut self.drift)
                        })
                        .map_err(|error| (error.code(), error.to_string()))
                } else {
                    self.known += 1;
                    Ok(())
                };
                if let Some(seen) = &mut self.seen {
                    seen.ids.push(id);
                }
                encoded
            });
            if let Err((code, error)) = taken {
                self.dead.push(DeadLetter {
                    document_id: id_of(document).ok(),
                    operation: "snapshot",
                    event: mapping.evidence_of_document(document),
                    code,
                    error,
                    cluster_time: Some(at),
                });
            }
        }
        self.advance(&fetched);
        if is_kept {
            self.kept += fetched.number;
            self.replies.extend(fetched.replies);
        }
    }

    /// Takes what was fetched as seen and makes nothing of it: of each document, the key is set
    /// aside in a dead letter made of its id, the operation, the key as BSON, and the time of the
    /// read.
    pub fn set_aside(
        &mut self,
        fetched: &Fetched,
        letter: impl Fn(Option<String>, &'static str, Evidence, Option<ClusterTime>) -> DeadLetter,
    ) {
        for (_, document) in fetched.documents() {
            let id = id_of(document).ok();
            let raw_id = Doc::new(document).ok().and_then(|document| document.get("_id").ok()?);
            let key = Evidence::of_key(raw_id);
            if let (Some(seen), Some(id)) = (&mut self.seen, &id) {
                seen.ids.push(id.clone());
            }
            self.dead.push(letter(id, "snapshot", key, Some(fetched.read_at)));
        }
        self.advance(fetched);
    }

    /// Takes what was fetched as seen: the table has just that there.
    pub fn pass(&mut self, fetched: &Fetched, there: Segment) {
        if let Some(seen) = &mut self.seen {
            seen.lows.push(there.first);
            seen.highs.push(there.last);
        }
        self.known += crate::model::count(fetched.followed());
        self.advance(fetched);
    }

    fn advance(&mut self, fetched: &Fetched) {
        // Finds are under way at once: the one after may have been answered before.
        let times = fetched.replies.iter().filter_map(|reply| reply.operation_time);
        self.operation_time = times.max().max(self.operation_time);
        self.documents += fetched.count();
        self.left_out += fetched.count() - crate::model::count(fetched.followed());
        self.place = fetched.place.clone();
    }
}

/// A document's id as rows have it, or why it has none.
pub type DocumentId = Result<String, String>;

/// What one find answered, not yet encoded.
#[derive(Debug)]
pub struct Fetched {
    replies: Vec<Reply>,
    /// Which of the documents are followed; `None` if all are.
    are_followed: Option<Vec<bool>>,
    /// How many documents.
    pub number: usize,
    /// Size of the replies.
    pub bytes: usize,
    /// The documents are as they were then; where the server names no moment, they are that old or
    /// newer.
    pub read_at: ClusterTime,
    /// Where the walk goes on.
    pub place: Place,
}

impl Fetched {
    /// Reads on from a place: the answer of the first find that answers anything, or the end of the
    /// walk. The first find goes as far as `end`, if that is given.
    pub async fn after(
        place: Place,
        mut end: Option<&Place>,
        source: &Source,
        reading: &Reading,
    ) -> Result<Self, Fault> {
        let mut fetched = Self { read_at: reading.after, ..Self::at(place) };
        while let Some(filter) = fetched.place.filter(end) {
            fetched.find(source, reading, filter, end).await?;
            if fetched.number > 0 {
                break;
            }
            end = None;
        }
        Ok(fetched)
    }

    const fn at(place: Place) -> Self {
        Self {
            replies: Vec::new(),
            are_followed: None,
            number: 0,
            bytes: 0,
            read_at: ClusterTime::new(0),
            place,
        }
    }

    /// The documents that are followed, each with its place among all.
    fn documents(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let is_followed = |place: usize| {
            let which = self.are_followed.as_ref().and_then(|which| which.get(place));
            which.is_none_or(|is_followed| *is_followed)
        };
        let all = self.replies.iter().flat_map(Reply::items).enumerate();
        all.filter(move |(place, _)| is_followed(*place))
    }

    /// How many documents are followed.
    pub fn followed(&self) -> usize {
        match &self.are_followed {
            Some(which) => which.iter().filter(|is_followed| **is_followed).count(),
            None => self.number,
        }
    }

    /// How many documents.
    pub fn count(&self) -> u64 {
        u64::try_from(self.number).unwrap_or(u64::MAX)
    }

    /// The id of each document.
    pub fn ids(&self) -> Vec<DocumentId> {
        self.documents().map(|(_, document)| id_of(document)).collect()
    }

    /// What `_hash` would hold of each document.
    pub fn hashes(&self, mapping: &Mapping) -> Vec<i64> {
        self.documents().map(|(_, document)| mapping.hash(document)).collect()
    }

    /// What the first document is known by: the bytes of its `_id`.
    pub fn first_key(&self) -> Vec<u8> {
        let first = self.documents().next();
        let id = first.and_then(|(_, first)| Doc::new(first).ok()?.get("_id").ok()?);
        id.map(|id| id.bytes.to_vec()).unwrap_or_default()
    }

    async fn find(
        &mut self,
        source: &Source,
        reading: &Reading,
        filter: Builder,
        end: Option<&Place>,
    ) -> Result<(), Fault> {
        let mut documents =
            source.chunk(&reading.collection, filter, reading.documents_max, reading.after).await?;
        let (mut read, mut cut_short) = (0, false);
        while let Some(reply) = documents.next().await? {
            read += reply.len();
            self.bytes += reply.size();
            self.read_at = documents.read_at.unwrap_or(reading.after).max(reading.after);
            if let Some(filter) = &reading.filter {
                let which = reply.items().map(|document| filter.follows(document));
                self.are_followed.get_or_insert_default().extend(which);
            }
            self.replies.push(reply);
            if self.bytes >= reading.bytes_max && read < reading.documents_max {
                cut_short = true;
                break;
            }
        }
        self.number += read;
        let more = cut_short || read >= reading.documents_max;
        self.place = match end {
            // An end before the place, in the source's order, finds nothing: that alone does not
            // move the place.
            Some(_) if read == 0 => return Ok(()),
            Some(end) if !more => end.clone(),
            _ => self.place.after_chunk(self.last_id().filter(|_| read > 0), more || end.is_some()),
        };
        Ok(())
    }

    fn last_id(&self) -> Option<Value<'_>> {
        let reply = self.replies.iter().rev().find(|reply| !reply.is_empty())?;
        Doc::new(reply.item(reply.len() - 1)).ok()?.get("_id").ok()?
    }
}

fn id_of(document: &[u8]) -> DocumentId {
    let found = Doc::new(document)
        .and_then(|document| document.get("_id"))
        .map_err(|error| error.to_string())?;
    let mut text = Vec::with_capacity(24);
    encode_id(found.ok_or("document without _id")?, &mut text)
        .map_err(|error| error.to_string())?;
    String::from_utf8(text).map_err(|_| "an id that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(at: u64) -> Fetched {
        let cursor = Builder::default().array("firstBatch", Builder::default());
        let reply = Builder::default().document("cursor", cursor).timestamp("operationTime", at);
        let replies = vec![Reply::of_bytes(reply.finish()).unwrap()];
        Fetched { replies, ..Fetched::at(Place::restore(0, None)) }
    }

    #[test]
    fn a_chunk_is_as_new_as_the_newest_of_its_finds_whichever_was_answered_last() {
        let mut chunk = Chunk::at(Place::restore(0, None), false);
        for at in [3, 7, 5] {
            chunk.advance(&answered(at));
        }
        assert_eq!(chunk.operation_time, Some(ClusterTime::new(7)));
    }
}
