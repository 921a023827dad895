//! One chunk: read from the source and encoded, ready for the writer.

use crate::apply::{DeadLetter, Drift, Mapping, Rows};
use crate::error::Fault;
use crate::model::bson::{Builder, Doc, Value};
use crate::model::position::ClusterTime;
use crate::model::value::encode_id;
use crate::source::{Reply, Source};

use super::walk::Place;

/// How chunks are read.
#[derive(Debug, Clone)]
pub struct Reading {
    pub collection: String,
    pub documents_max: usize,
    pub bytes_max: usize,
    /// A time whose effects the read must see, and which its rows will carry.
    pub after: ClusterTime,
}

/// Documents read, as rows.
#[derive(Debug)]
pub struct Chunk {
    pub rows: Rows,
    pub dead: Vec<DeadLetter>,
    pub drift: Drift,
    pub documents: u64,
    /// Where the walk goes on.
    pub place: Place,
    /// The majority commit point when the chunk had been read.
    pub operation_time: Option<ClusterTime>,
    /// The documents' bytes, for a row that turns out not to be storable.
    pub replies: Vec<Reply>,
    /// The ids of all documents read, also of those that cannot be stored; kept only where a sweep follows.
    pub seen: Vec<String>,
    keep_seen: bool,
}

impl Chunk {
    /// Nothing read yet.
    pub fn at(place: Place, keep_seen: bool) -> Self {
        Self {
            seen: Vec::new(),
            keep_seen,
            rows: Rows::default(),
            dead: Vec::new(),
            drift: Drift::default(),
            documents: 0,
            place,
            operation_time: None,
            replies: Vec::new(),
        }
    }

    /// Reads on from the chunk's place: one find that answers anything, or the end of the walk. On an error the chunk is
    /// as it was.
    ///
    /// # Errors
    /// Whatever the source answers, classified.
    pub async fn read(&mut self, source: &Source, mapping: &Mapping, reading: &Reading) -> Result<(), Fault> {
        let fetched = Fetched::after(self.place.clone(), source, reading).await?;
        self.take(fetched, mapping, reading.after);
        Ok(())
    }

    /// Encodes what was fetched. `at` is the time its rows will carry: of before the read.
    pub fn take(&mut self, fetched: Fetched, mapping: &Mapping, at: ClusterTime) {
        for reply in fetched.replies {
            self.operation_time = reply.operation_time.or(self.operation_time);
            for document in reply.items() {
                let origin = usize::try_from(self.documents).unwrap_or(usize::MAX);
                self.documents += 1;
                if let Err(error) = self.encode(document, mapping, at, origin) {
                    self.dead.push(DeadLetter {
                        document_id: None,
                        operation: "snapshot",
                        event: document.to_vec(),
                        code: "malformed".to_owned(),
                        error,
                        cluster_time: Some(at),
                    });
                }
            }
            self.replies.push(reply);
        }
        self.place = fetched.place;
    }

    fn encode(&mut self, bytes: &[u8], mapping: &Mapping, at: ClusterTime, origin: usize) -> Result<(), String> {
        let document = Doc::new(bytes).map_err(|error| error.to_string())?;
        let id = document.get("_id").ok().flatten().ok_or("document without _id")?;
        let mut text = Vec::with_capacity(24);
        encode_id(id, &mut text).map_err(|error| error.to_string())?;
        let text = String::from_utf8(text).map_err(|_| "an id that is not UTF-8")?;
        let encoded = mapping.encode(&text, document, at, origin, &mut self.rows, &mut self.drift);
        if self.keep_seen {
            self.seen.push(text);
        }
        encoded.map_err(|error| error.to_string())
    }
}

/// What one find answered, not yet encoded.
#[derive(Debug)]
pub struct Fetched {
    replies: Vec<Reply>,
    pub documents: u64,
    /// Of the replies.
    pub bytes: usize,
    /// Where the walk goes on.
    pub place: Place,
}

impl Fetched {
    /// Finds on from a place: what the first find that answers anything answers, or the end of the walk.
    ///
    /// # Errors
    /// Whatever the source answers, classified.
    pub async fn after(place: Place, source: &Source, reading: &Reading) -> Result<Self, Fault> {
        let mut fetched = Self { replies: Vec::new(), documents: 0, bytes: 0, place };
        while let Some(filter) = fetched.place.filter() {
            fetched.find(source, reading, filter).await?;
            if fetched.documents > 0 {
                break;
            }
        }
        Ok(fetched)
    }

    async fn find(&mut self, source: &Source, reading: &Reading, filter: Builder) -> Result<(), Fault> {
        let mut documents = source.chunk(&reading.collection, filter, reading.documents_max, reading.after).await?;
        let (mut read, mut cut_short) = (0, false);
        while let Some(reply) = documents.next().await? {
            read += reply.len();
            self.bytes += reply.size();
            self.replies.push(reply);
            if self.bytes >= reading.bytes_max && read < reading.documents_max {
                cut_short = true;
                break;
            }
        }
        self.documents += u64::try_from(read).unwrap_or(u64::MAX);
        let more = cut_short || read >= reading.documents_max;
        self.place = self.place.after_chunk(self.last_id().filter(|_| read > 0), more);
        Ok(())
    }

    fn last_id(&self) -> Option<Value<'_>> {
        let reply = self.replies.iter().rev().find(|reply| !reply.is_empty())?;
        Doc::new(reply.item(reply.len() - 1)).ok()?.get("_id").ok()?
    }
}
