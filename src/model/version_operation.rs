//! How a version of a row came to be.

use super::vocabulary::vocabulary;

vocabulary! {
    /// What wrote a version.
    pub enum VersionOperation {
        /// A change of a document that had no row.
        Insert = "insert",
        /// A change of one that had.
        Update = "update",
        /// A resync, which found that the row was not the document: it became so some time before.
        Resync = "resync",
        /// A first snapshot, or whatever wrote the row before its versions were kept.
        Snapshot = "snapshot",
    }
}
