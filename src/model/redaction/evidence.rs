//! What is kept of an event or a document that was set aside: nothing that the stream hides.

use super::redact::Redaction;
use crate::model::bson::{Builder, Doc, Value, kind};
use crate::model::event::Event;
use crate::model::value::Bound;

/// Raw BSON of a dead letter. It is made in the ways that stand here and in no other, so that
/// nothing goes round a redaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence(Vec<u8>);

impl Evidence {
    /// `{_id: …}` alone; nothing where there is no `_id`.
    pub fn of_key(id: Option<Value<'_>>) -> Self {
        Self(id.map_or_else(Builder::default, |id| Builder::default().value("_id", id)).finish())
    }

    /// `{_id: "…"}`: a row's id, where the `_id` cannot be told from it.
    pub fn of_row_id(id: &str) -> Self {
        Self(Builder::default().text("_id", id).finish())
    }

    /// A document; where it cannot be redacted, its key.
    pub fn of_document(document: &[u8], redaction: &Redaction, limits: Bound) -> Self {
        if redaction.is_none() {
            return Self(document.to_vec());
        }
        let document = Doc::new(document).ok();
        let redacted = document.and_then(|document| redaction.apply(document, limits).ok());
        redacted.map_or_else(
            || Self::of_key(document.and_then(|document| document.get("_id").ok().flatten())),
            Self,
        )
    }

    /// An event: whole where nothing is hidden. Else its token, operation, time, collection and
    /// key, and its document redacted; of one that cannot be read, or whose document cannot be
    /// redacted, without the document. A description of an update, a document as it was before and
    /// the fields of a shard's key are left out, since paths are not looked for in these.
    pub fn of_event(event: &[u8], redaction: &Redaction, limits: Bound) -> Self {
        if redaction.is_none() {
            return Self(event.to_vec());
        }
        let is_readable = Event::parse(event).is_ok();
        let mut kept = Builder::default();
        for (key, value) in Doc::new(event).into_iter().flat_map(|event| event.elements().flatten())
        {
            match (key, value.kind) {
                (b"_id", kind::DOCUMENT) => kept.push("_id", value),
                (b"operationType", kind::STRING) => kept.push("operationType", value),
                (b"clusterTime", kind::TIMESTAMP) => kept.push("clusterTime", value),
                (b"ns", kind::DOCUMENT) => kept.push("ns", value),
                (b"documentKey", kind::DOCUMENT) => {
                    let key = value.as_document().and_then(|key| key.get("_id").ok().flatten());
                    let key = Self::of_key(key);
                    kept.push("documentKey", Value { kind: kind::DOCUMENT, bytes: &key.0 });
                }
                (b"fullDocument", kind::DOCUMENT) if is_readable => {
                    let document = value.as_document();
                    let redacted =
                        document.and_then(|document| redaction.apply(document, limits).ok());
                    if let Some(bytes) = redacted {
                        kept.push("fullDocument", Value { kind: kind::DOCUMENT, bytes: &bytes });
                    }
                }
                _ => {}
            }
        }
        Self(kept.finish())
    }

    /// What stands in a letter already, which another redaction made or none. `operation` is the
    /// letter's: an event's, or `snapshot` for a document that a walk read. A letter may also hold
    /// nothing but a key.
    pub fn of_letter(operation: &str, event: &[u8], redaction: &Redaction, limits: Bound) -> Self {
        let is_document =
            operation == "snapshot" || (operation != "unreadable" && Event::parse(event).is_err());
        if is_document {
            Self::of_document(event, redaction, limits)
        } else {
            Self::of_event(event, redaction, limits)
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}
