//! Step 4, remember: the position, the lease, the fence.
//!
//! Invariants: the position advances only inside a fenced transaction ([`Fence::advance`]); an
//! [`Lease`] comes only from a grant; epochs only rise; all times are the database's.

mod attempt;
mod binding;
mod command;
mod fence;
mod history;
mod lease;
mod letter;
mod obey;
mod purge;
mod schema;
mod store;
mod times;
mod unseen;
mod walk;

pub use attempt::{Before, Mark, Road};
pub use binding::{ADOPT, Binding, Bound, TableNow, Touched};
pub use command::{Command, Outcome, known_as};
pub use fence::Fence;
pub use history::Retired;
pub use lease::{Held, Lease, Renewed};
pub use letter::{Letter, Letters};
pub use obey::Act;
pub use purge::{Over, PURGE, STEP_ROWS};
pub use schema::{Standing, own_tables};
pub use store::{Checkpoints, FORMAT_VERSION, Start, Stored};
pub use unseen::Unseen;
pub use walk::{Beginning, GapReport, WalkRow};
