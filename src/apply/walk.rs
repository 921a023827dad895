//! A walk's progress, which is committed with the rows it is about. Pure.

use crate::error::Code;
use crate::model::resync_state::ResyncState;

/// One step of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    pub id: i64,
    pub step: WalkStep,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkStep {
    /// Documents were read up to this place. What was seen is kept for the sweep; a first snapshot
    /// has none.
    Chunk {
        class: i32,
        after: Option<Vec<u8>>,
        documents_read: u64,
        seen: Option<ChunkSeen>,
        then: Then,
        /// Rows get the hash of their document, though nothing else of them changes: another
        /// mapping made them.
        renews: bool,
    },
    /// Rows the walk did not see were deleted.
    Swept,
    /// Nothing more is done until a person says so.
    Held { code: Code, note: String, rows_to_delete: Option<u64> },
    /// The sweep is done.
    Completed,
}

/// What a walk saw in one chunk: ids, and segments of the table that held its documents and
/// nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChunkSeen {
    pub ids: Vec<String>,
    /// First and last id of each segment.
    pub lows: Vec<String>,
    pub highs: Vec<String>,
}

impl ChunkSeen {
    pub const fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.lows.is_empty()
    }
}

/// What comes after a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    MoreChunks,
    Sweep,
    Nothing,
}

impl Then {
    /// The state the walk is in after the chunk.
    pub(super) const fn state(self) -> ResyncState {
        match self {
            Self::MoreChunks => ResyncState::Running,
            Self::Sweep => ResyncState::Sweeping,
            Self::Nothing => ResyncState::Completed,
        }
    }
}

impl Walk {
    /// Whether its rows are told apart and reported: not those of a first snapshot.
    pub(super) const fn is_repair(&self) -> bool {
        matches!(&self.step, WalkStep::Chunk { seen: Some(_), .. })
    }

    pub(super) const fn renews(&self) -> bool {
        matches!(self.step, WalkStep::Chunk { renews: true, .. })
    }

    /// Whether nothing of it is left to be done.
    pub(super) const fn is_completed(&self) -> bool {
        matches!(self.step, WalkStep::Completed | WalkStep::Chunk { then: Then::Nothing, .. })
    }

    /// A chunk of a first snapshot with more to come: others may go into the same COPY.
    pub const fn may_be_bulk_loaded(&self) -> bool {
        self.may_be_lost() && !self.is_repair()
    }

    /// A chunk after which more is to come need not wait for the disk: should Postgres lose it in a
    /// crash, the walk's place is lost with it and the chunk is walked again. What comes after it
    /// waits for everything before.
    pub(super) const fn may_be_lost(&self) -> bool {
        matches!(self.step, WalkStep::Chunk { then: Then::MoreChunks, .. })
    }
}
