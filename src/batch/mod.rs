//! Step 2, gather: events into batches. Pure and synchronous; no I/O, no clock.
//!
//! Invariants: a batch's position is never past its last event; of several changes to one key the
//! last wins; what changes no row ends the batch before it.

mod gather;
mod plan;

pub use gather::{BatchLimits, EventRef, Gather, Taken};
pub use plan::{Broken, Change, Plan, plan};
