//! The walk of a whole collection, chunk by chunk, between the live stream's batches: the first snapshot.
//!
//! Invariants: a chunk's rows carry a cluster time taken before it was read, so a newer event always wins; the
//! walk's place is committed with each chunk; no `_id` of any BSON type is left out.

mod chunk;
mod walk;

pub use chunk::{Chunk, Reading};
pub use walk::Place;
