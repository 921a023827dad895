//! How a document's field can differ from its configuration.

use super::vocabulary::vocabulary;

vocabulary! {
    /// Also a metric's label. In the order of the names: reports list them so.
    pub enum DriftKind {
        /// A required field is absent.
        Missing = "missing",
        /// The value is of another type than its column.
        Type = "type",
        /// No column reads the field, and many documents have it.
        Unknown = "unknown",
        /// The type is right, the value is out of the column's range.
        Value = "value",
        /// The field was there, and is absent from many documents in a row.
        Vanished = "vanished",
    }
}
