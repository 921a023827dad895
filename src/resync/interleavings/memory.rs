//! What the model's walk and sweep have in memory, which a kill takes.

use std::collections::VecDeque;

use super::model_source::{Answer, Content, Time};

/// One find of the chunk being read.
pub(super) struct Find {
    pub from: Option<u8>,
    /// What the table had next when it was asked, before the find: the find goes as far as its last
    /// key.
    pub there: Vec<(u8, u32)>,
    pub answer: Option<Answer>,
}

/// What is read of the source for one transaction.
#[derive(Default)]
pub(super) struct Chunk {
    /// Each with the time it was read at.
    pub rows: Vec<(u8, Content, Time)>,
    pub seen: Vec<u8>,
    /// Instead of the keys seen: from one to another the table had just what was found.
    pub segments: Vec<(u8, u8)>,
    pub place: Option<u8>,
    pub end: bool,
    /// Under way, in the order of the walk.
    pub finds: VecDeque<Find>,
    /// Something was taken.
    pub taken: bool,
}

impl Chunk {
    pub fn is_read(&self) -> bool {
        self.taken && self.finds.is_empty()
    }
}

/// What the sweep has found, and what of it is about to be deleted.
#[derive(Default)]
pub(super) struct Sweep {
    pub found: Vec<u8>,
    /// Each with whether the source had it when it could have been asked.
    pub part: Vec<(u8, bool)>,
}
