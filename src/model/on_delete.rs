//! What becomes of the row of a document that was deleted.

use super::vocabulary::vocabulary;

vocabulary! {
    /// What a deletion at the source does to the row.
    #[derive(Default)]
    pub enum OnDelete {
        /// The row is deleted.
        #[default]
        Delete = "delete",
        /// The row stays, with the time of the deletion in `_deleted_at`.
        Mark = "mark",
    }
}
