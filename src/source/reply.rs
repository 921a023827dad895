//! One reply of the server, whole and raw: its documents or events, its post-batch resume token,
//! its time.

use std::ops::Range;

use mongodb::raw_batch_cursor::RawBatch;

use crate::error::{Class, Code, Fault};
use crate::model::bson::{Doc, Malformed};
use crate::model::event::Event;
use crate::model::position::{ClusterTime, ResumeToken};

#[derive(Debug)]
enum Backing {
    Driver(RawBatch),
    Owned(Vec<u8>),
}

impl Backing {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Driver(batch) => batch.as_raw_document().as_bytes(),
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A reply to aggregate, find or getMore. Its bytes are kept as they came; items are ranges into
/// them.
#[derive(Debug)]
pub struct Reply {
    backing: Backing,
    items: Vec<Range<usize>>,
    /// `postBatchResumeToken`: where the server had read to when it answered.
    pub token: Option<ResumeToken>,
    /// `operationTime`: the majority commit point when the server answered.
    pub operation_time: Option<ClusterTime>,
    /// `atClusterTime`: the moment a find read, where it read one.
    pub read_at: Option<ClusterTime>,
}

#[derive(Default)]
struct Parsed {
    items: Vec<Range<usize>>,
    token: Option<ResumeToken>,
    operation_time: Option<ClusterTime>,
    read_at: Option<ClusterTime>,
}

impl Reply {
    pub(super) fn of_driver(batch: RawBatch) -> Result<Self, Fault> {
        Self::read(Backing::Driver(batch)).map_err(|error| {
            let message = format!("mongodb's reply: {error}");
            Fault::new(Class::Unknown, Code::SourceUnreachable, message, "")
        })
    }

    /// A reply from bytes, for tests and replays.
    ///
    /// # Errors
    /// The bytes are no cursor reply.
    pub fn of_bytes(bytes: Vec<u8>) -> Result<Self, Malformed> {
        Self::read(Backing::Owned(bytes))
    }

    fn read(backing: Backing) -> Result<Self, Malformed> {
        let Parsed { items, token, operation_time, read_at } = parse(backing.bytes())?;
        Ok(Self { backing, items, token, operation_time, read_at })
    }

    /// Number of events or documents.
    pub const fn len(&self) -> usize {
        self.items.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.backing.bytes().len()
    }

    /// The bytes of the n-th event or document; empty past the end.
    pub fn item(&self, index: usize) -> &[u8] {
        let range = self.items.get(index).cloned().unwrap_or_default();
        self.backing.bytes().get(range).unwrap_or_default()
    }

    /// Leaves the events of one collection out; their tokens still count.
    pub(super) fn leave_out(&mut self, collection: &str) {
        if self.token.is_none()
            && let Some(last) = self.len().checked_sub(1)
        {
            let event = Event::parse(self.item(last)).ok();
            self.token = event.and_then(|event| event.token().ok());
        }
        let items = std::mem::take(&mut self.items);
        let bytes = self.backing.bytes();
        let is_left_out = |range: &Range<usize>| {
            let event = Event::parse(bytes.get(range.clone()).unwrap_or_default());
            event.is_ok_and(|event| event.collection == Some(collection))
        };
        self.items = items.into_iter().filter(|range| !is_left_out(range)).collect();
    }

    pub fn items(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.item(index))
    }
}

fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let (mut parsed, mut found) = (Parsed::default(), false);
    for element in Doc::new(bytes)?.elements() {
        match element? {
            (b"operationTime", value) => {
                parsed.operation_time = value.as_timestamp().map(ClusterTime::new);
            }
            (b"cursor", value) => {
                let cursor = value.as_document().ok_or(Malformed("cursor is not a document"))?;
                for element in cursor.elements() {
                    match element? {
                        (b"firstBatch" | b"nextBatch", batch) => {
                            let batch =
                                batch.as_document().ok_or(Malformed("batch is not an array"))?;
                            parsed.items = ranges(bytes, batch)?;
                            found = true;
                        }
                        (b"postBatchResumeToken", value) => {
                            parsed.token = value
                                .as_document()
                                .and_then(|doc| ResumeToken::new(doc.bytes()).ok());
                        }
                        (b"atClusterTime", value) => {
                            parsed.read_at = value.as_timestamp().map(ClusterTime::new);
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if found { Ok(parsed) } else { Err(Malformed("reply without a batch")) }
}

/// Where each document of the batch lies in the reply.
fn ranges(reply: &[u8], batch: Doc<'_>) -> Result<Vec<Range<usize>>, Malformed> {
    let base = reply.as_ptr().addr();
    batch
        .elements()
        .map(|element| {
            let (_, value) = element?;
            let start = value.bytes.as_ptr().addr() - base;
            Ok(start..start + value.bytes.len())
        })
        .collect()
}
