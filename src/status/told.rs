//! What a stream is told: a committed piece of work, an answer of the source.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::position::{ClusterTime, Position};

/// What one committed batch came to.
#[derive(Debug, Default)]
pub struct Committed<'a> {
    /// By operation, in the order of [`crate::model::event::Operation::ROWS`].
    pub received: [u64; 4],
    /// Dead letters among them, by operation.
    pub not_applied: [u64; 4],
    /// Updates whose document was gone.
    pub gone: u64,
    /// A chunk of a walk or a part of a sweep, not a batch.
    pub of_walk: bool,
    pub rows_changed: u64,
    pub rows_unchanged: u64,
    /// By code.
    pub dead_letters: BTreeMap<DeadLetterCode, u64>,
    pub position: Option<&'a Position>,
    pub last_event: Option<ClusterTime>,
    pub written_at_millis: &'a [i64],
    pub took: Duration,
}

/// What a reply of the source proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet: opening asks for an empty reply.
    Opened,
    /// The source answers; nothing new.
    Still,
    /// Events, or a token further on.
    Moved,
}
