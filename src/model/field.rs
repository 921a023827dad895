//! Names of documents' fields.

/// Names kept of one stream at most, known and new and not yet told. What comes beyond them is
/// data.
pub const NAMES_MAX: usize = 256;
