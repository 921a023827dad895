//! Why an event or a document is set aside.

use super::vocabulary::vocabulary;

vocabulary! {
    /// As kept in `dead_letter.code`; also a metric's label. In the order of the names: reports
    /// list them so.
    pub enum DeadLetterCode {
        /// Processes died while they worked on just this document.
        Crashed = "crashed",
        /// It is no readable BSON, or has no usable `_id`.
        Malformed = "malformed",
        /// Postgres refuses it.
        Refused = "refused",
        /// It alone takes longer than a statement may.
        Slow = "slow",
        /// It has more fields, or would make a larger row, than the limits allow.
        TooLarge = "too_large",
    }
}

impl DeadLetterCode {
    /// Whether Postgres answered so; the rest is told from the document alone.
    pub const fn is_of_postgres(self) -> bool {
        matches!(self, Self::Refused | Self::Slow)
    }
}
