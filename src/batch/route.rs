//! Which streams of a group follow which collection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::position::ClusterTime;

/// The streams of a group, by their collections.
#[derive(Debug, Default)]
pub struct Routes {
    by_collection: HashMap<String, Vec<usize>>,
    /// By stream: what stopped it up to this time does not any more, because its collection was
    /// looked at later, and is walked as it was found.
    stops_after: Vec<AtomicU64>,
    /// By stream: changes up to this time are in what is walked.
    changes_after: Vec<AtomicU64>,
}

impl Routes {
    /// `collections`: of the streams, in their order. Two streams may follow one collection.
    pub fn new<'a>(collections: impl IntoIterator<Item = &'a str>) -> Self {
        let mut routes = Self::default();
        for collection in collections {
            let streams = routes.by_collection.entry(collection.to_owned()).or_default();
            streams.push(routes.stops_after.len());
            routes.stops_after.push(AtomicU64::default());
            routes.changes_after.push(AtomicU64::default());
        }
        routes
    }

    /// The streams that follow a collection.
    pub fn of(&self, collection: Option<&str>) -> &[usize] {
        let streams = collection.and_then(|name| self.by_collection.get(name));
        streams.map(Vec::as_slice).unwrap_or_default()
    }

    /// How many streams there are.
    pub const fn len(&self) -> usize {
        self.stops_after.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.stops_after.is_empty()
    }

    /// What a stream leaves out from now on, because its collection is walked, or was, as it was
    /// found later: changes up to the one time, and what stopped it up to the other.
    pub fn leave_out(&self, stream: usize, changes: ClusterTime, stops: ClusterTime) {
        for (after, until) in [(&self.changes_after, changes), (&self.stops_after, stops)] {
            if let Some(after) = after.get(stream) {
                after.store(until.packed(), Ordering::Relaxed);
            }
        }
    }

    /// Whether what changes a row, at this time, is applied to a stream.
    pub fn applies(&self, stream: usize, at: ClusterTime) -> bool {
        let after = self.changes_after.get(stream).map(|after| after.load(Ordering::Relaxed));
        after.is_none_or(|after| at.packed() > after)
    }

    /// Whether what changes no row, at this time, stops a stream.
    pub fn stops(&self, stream: usize, at: ClusterTime) -> bool {
        let after = self.stops_after.get(stream).map(|after| after.load(Ordering::Relaxed));
        after.is_none_or(|after| at.packed() > after)
    }
}
