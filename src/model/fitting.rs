//! How a field of a document stands to the column that reads it.

use super::drift_kind::DriftKind;
use super::vocabulary::vocabulary;

vocabulary! {
    /// Why a column holds what it holds.
    pub enum Fitting {
        /// The value, as the column's type has it.
        Fits = "fits",
        /// The field is there, and null.
        Null = "null",
        /// No field that the column reads is there.
        Missing = "missing",
        /// The value is of another type than the column: NULL.
        Type = "type",
        /// The type is right, the value is out of the column's range: NULL.
        Range = "range",
        /// There is no room for it, so there is no row.
        TooLarge = "too_large",
    }
}

impl Fitting {
    /// Of a value that does not fit.
    pub const fn of_drift(kind: DriftKind) -> Self {
        match kind {
            DriftKind::Value => Self::Range,
            DriftKind::Missing | DriftKind::Vanished => Self::Missing,
            DriftKind::Type | DriftKind::Unknown => Self::Type,
        }
    }
}
