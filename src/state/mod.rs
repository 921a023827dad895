//! Step 4, remember: one file a table of the state schema, and files without a table for what is
//! one transaction over several (`ownership`, `fence`, `walk_start`, `rebinding`, `execution`,
//! `held_table`, `unseen`, `retention`), composed of the parts of statements that the tables' files
//! give.
//!
//! Invariants: the position advances only inside a fenced transaction ([`Fence::advance`]); a
//! [`Lease`] comes only from a grant; epochs only rise; all times are the database's; a table's
//! name stands in the SQL of its own file alone.

mod attempt;
mod cancellation;
mod checkpoint;
mod checkpoint_history;
mod command;
mod dead_letter;
mod enrolment;
mod execution;
mod fence;
mod filled;
mod gap_report;
mod grant;
mod held_table;
mod idle_positions;
mod lease;
mod member;
mod owed_walk;
mod ownership;
mod pause;
mod process;

mod release;
mod resync;
mod resync_kept;
mod resync_part;
mod resync_seen;
mod retention;
mod shown_position;
mod stream;
mod stream_notes;
mod stream_position;
mod stream_row;
mod summary;
mod table_now;
mod unseen;
mod verb;
mod void_times;
mod walk_row;
mod walk_start;
mod witness;

use std::sync::Arc;
use std::time::Duration;

pub use attempt::{Before, Mark, Road, TakenInHand};
pub use checkpoint::{Start, Stored, of_another_database};
pub use checkpoint_history::Retired;
pub use command::{Command, known_as, recording_ack};
pub use dead_letter::{Letter, Letters, OldLetter, SetAside};
pub use execution::Act;
pub use fence::Fence;
pub use gap_report::GapReport;
pub use grant::Lease;
pub use idle_positions::{IdleEnd, IdlePosition};
pub use lease::{Candidacy, LeaseRow, LedStream, Renewal, Renewed};
pub use member::{Configured, Member};
pub use pause::Pause;
pub use process::ProcessRow;
pub use release::{FORMAT_VERSION, Standing, is_too_old, own_tables};
pub use resync_part::{PartListed, PartRow, PartStep};
pub use retention::{Over, STEP_ROWS};
pub use stream_position::OwnPosition;
pub use stream_row::{Binding, BoundTo, StreamRow};
pub use summary::SummaryRow;
pub use table_now::TableNow;
pub use unseen::Unseen;
pub use verb::{Outcome, Verb};
pub use walk_row::{ChunkRead, EndedWalk, WalkCount, WalkRow};
pub use walk_start::{Beginning, Changes, NewPosition};
pub use witness::{Touched, Witness};

use crate::model::namespace::quote;
use crate::postgres::{Pool, Target};

/// tidemark's own tables, in their schema.
#[derive(Debug, Clone)]
pub struct StateTables {
    pool: Pool,
    target: Target,
    /// A call ends within this time, unless it says otherwise.
    deadline: Duration,
    /// Quoted, for statements.
    schema: Arc<str>,
    plain_schema: Arc<str>,
}

impl StateTables {
    /// `pool` serves what is not on the data path.
    pub fn new(target: Target, pool: Pool, schema: &str) -> Self {
        let deadline = target.deadline();
        Self { pool, target, deadline, schema: quote(schema).into(), plain_schema: schema.into() }
    }

    /// The same tables, on which every call ends within this time.
    #[must_use]
    pub const fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub const fn pool(&self) -> &Pool {
        &self.pool
    }
}
