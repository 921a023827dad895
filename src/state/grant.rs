//! What was granted: a group, under an epoch and a nonce that no other grant has.

use uuid::Uuid;

/// A grant. Made only by `StateTables::acquire`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    group: String,
    epoch: i64,
    nonce: Uuid,
}

impl Lease {
    /// For the statement that grants it alone.
    pub(super) fn granted(group: &str, epoch: i64, nonce: Uuid) -> Self {
        Self { group: group.to_owned(), epoch, nonce }
    }

    pub fn group(&self) -> &str {
        &self.group
    }

    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    pub(super) const fn nonce(&self) -> Uuid {
        self.nonce
    }
}
