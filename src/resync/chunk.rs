//! One chunk: read from the source and encoded, ready for the writer.

use crate::apply::{DeadLetter, Drift, Mapping, Rows};
use crate::error::Fault;
use crate::model::bson::{Doc, Value};
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
        while let Some(filter) = self.place.filter() {
            let kept = (self.rows.len(), self.dead.len(), self.documents, self.replies.len(), self.seen.len());
            let read = match self.find(source, mapping, reading, filter).await {
                Ok(read) => read,
                Err(fault) => {
                    self.rows.truncate(kept.0);
                    self.dead.truncate(kept.1);
                    self.documents = kept.2;
                    self.replies.truncate(kept.3);
                    self.seen.truncate(kept.4);
                    return Err(fault);
                }
            };
            if read > 0 {
                break;
            }
        }
        Ok(())
    }

    /// One find, and the place after it. Returns the number of documents read.
    async fn find(
        &mut self,
        source: &Source,
        mapping: &Mapping,
        reading: &Reading,
        filter: crate::model::bson::Builder,
    ) -> Result<usize, Fault> {
        let mut documents = source.chunk(&reading.collection, filter, reading.documents_max, reading.after).await?;
        let mut read = 0;
        let mut cut_short = false;
        while let Some(reply) = documents.next().await? {
            self.operation_time = reply.operation_time.or(self.operation_time);
            read += reply.len();
            self.take(reply, mapping, reading.after);
            if self.rows.size() >= reading.bytes_max && read < reading.documents_max {
                cut_short = true;
                break;
            }
        }
        let more = cut_short || read >= reading.documents_max;
        self.place = self.place.after_chunk(self.last_id().filter(|_| read > 0), more);
        Ok(read)
    }

    fn take(&mut self, reply: Reply, mapping: &Mapping, at: ClusterTime) {
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

    fn last_id(&self) -> Option<Value<'_>> {
        let reply = self.replies.iter().rev().find(|reply| !reply.is_empty())?;
        Doc::new(reply.item(reply.len() - 1)).ok()?.get("_id").ok()?
    }
}
