//! Step 3, write: one transaction in this order: fence, rows, dead letters, position.
//!
//! Invariants: nothing is written without the fence; the position commits with its rows or not at
//! all; a row is written only if it changes and only if its cluster time is not older; one bad row,
//! or delete, never stops the rest.

mod as_of;
mod bind;
mod checksum;
mod child_tables;
mod contents;
mod copy;
mod dead_letter;
mod digest;
mod drift;
mod history;
mod insert_path;
mod lacked;
mod load;
mod mapping;
mod pace;
mod parts;
mod rehearsal;
mod row_beside;
mod row_times;
mod row_writer;
mod rows;
mod schema;
mod setback;
mod shape;
mod slow_tables;
mod stale_versions;
mod statement_limit;
mod statements;
mod table_writer;
mod upsert;
mod walk;
mod wanted;
mod work;
mod writer;

pub use as_of::{ensure_as_of, left_versions};
pub use checksum::{Candidate, Checksums, Segment};
pub use dead_letter::{DeadLetter, Tally};
pub use drift::Drift;
pub use lacked::Lacked;
pub use mapping::{ColumnRead, Mapping, Sampled};
pub use rehearsal::rehearse;
pub use row_beside::{RowBeside, RowNow, row_beside, row_now};
pub use row_times::row_times;
pub use row_writer::row_arguments;
pub use rows::{Deletes, RowBuffers, Rows};
pub use schema::{Kind, LiveTable, ensure, read_live};
pub use setback::Setback;
pub use slow_tables::{HoldsUp, SlowTables, held_up};
pub use stale_versions::{end_stale_versions, rowless_versions};
pub use statements::{Statements, living};
pub use table_writer::TableWriter;
pub use walk::{ChunkSeen, Then, Walk, WalkStep};
pub use wanted::Wanted;
pub use work::{Applied, Beside, Commit, Origins, Work};
pub use writer::{Calls, Together, Writer};
