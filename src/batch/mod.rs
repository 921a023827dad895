//! Step 2, gather: events into batches. Pure and synchronous; no I/O, no clock.
//!
//! Invariants: a batch's position is never past its last event; a batch ends between two cluster
//! times, and what the source committed at one time and is too large for a batch comes in pieces
//! that say so; of several changes to one key the last wins.

mod gather;
mod plan;
mod route;

pub use gather::{BatchLimits, EventRef, Gather, Piece, Taken};
pub use plan::{Broken, Change, Plan, Stop, StreamPlan, collection_of, plan};
pub use route::Routes;
