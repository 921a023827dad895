//! Step 4, remember: the position, the lease, the fence.
//!
//! Invariants: the position advances only inside a fenced transaction ([`Fence::advance`]); an
//! [`Lease`] comes only from a grant; epochs only rise; all times are the database's.

mod attempt;
mod checkpoint;
mod checkpoint_history;
mod command;
mod dead_letter;
mod fence;
mod lease;
mod migration;
mod obey;
mod purge;
mod resync;
mod stream;
mod times;
mod unseen;

pub use attempt::{Before, Mark, Road, Taken};
pub use checkpoint::{Checkpoints, FORMAT_VERSION, Start, Stored};
pub use checkpoint_history::Retired;
pub use command::{Command, Outcome, Verb, known_as};
pub use dead_letter::{Letter, Letters};
pub use fence::Fence;
pub use lease::{Held, Lease, Renewed};
pub use migration::{Standing, is_too_old, own_tables};
pub use obey::Act;
pub use purge::{Over, STEP_ROWS};
pub use resync::{Beginning, GapReport, WalkRow, may_become};
pub use stream::{Binding, Bound, TableNow, Touched};
pub use unseen::Unseen;
