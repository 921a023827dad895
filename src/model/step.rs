//! The steps of following a stream that can fail and are tried again.

use super::vocabulary::vocabulary;

vocabulary! {
    /// What failed; also a metric's label. In the order of the names: reports list them so.
    pub enum Step {
        /// Write and commit a batch, or a piece of a walk.
        Apply = "apply",
        /// Take or renew the lease.
        Lease = "lease",
        /// Look up the documents of updates.
        Lookup = "lookup",
        /// Take up the stored position, open the change stream.
        Open = "open",
        /// Read the change stream.
        Read = "read",
        /// Look for the rows that the source does not have.
        Sweep = "sweep",
        /// Read the collection chunk by chunk.
        Walk = "walk",
    }
}

impl Step {
    /// Whether it is a walk's: the stream goes on following while it fails.
    pub const fn is_of_walk(self) -> bool {
        matches!(self, Self::Walk | Self::Sweep)
    }
}
