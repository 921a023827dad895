//! Step 4, remember: the position, the lease, the fence.
//!
//! Invariants: the position advances only inside a fenced transaction ([`Fence::advance`]); an [`Lease`] comes only
//! from a grant; epochs only rise; all times are the database's.

mod fence;
mod lease;
mod store;
mod walk;

pub use fence::Fence;
pub use lease::{Held, Lease};
pub use store::{Checkpoints, FORMAT_VERSION, Start, Stored};
pub use walk::RunningWalk;
