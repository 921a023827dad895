//! The walk of a whole collection, chunk by chunk, between the live stream's batches, and the sweep
//! after it: the first snapshot, and the repair of a table after history was lost.
//!
//! Invariants: a chunk's rows carry a cluster time taken before it was read, so a newer event
//! always wins; the walk's place is committed with each chunk; no `_id` of any BSON type is left
//! out; nothing is swept that the walk saw, that is as new as the walk's start, or that is more
//! than the cap allows without a person's word.

mod chunk;
#[cfg(test)]
mod interleavings;
mod place;
mod sweep;

pub use chunk::{Chunk, DocumentId, Fetched, Reading};
pub use place::Place;
pub use sweep::{SweepCounts, SweepLimits, SweepVerdict, judge};
