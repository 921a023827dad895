//! What a comparison suspects: a document and its row that are not the same at first sight.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Missing,
    Extra,
    Different,
}

/// One document and its row, which are not the same at first sight.
#[derive(Debug)]
pub(super) struct Suspect {
    /// As `{"": _id}`.
    pub raw_id: Vec<u8>,
    pub kind: Kind,
    /// How often in a row it was found so.
    pub stays: u32,
}

impl Suspect {
    pub const fn new(raw_id: Vec<u8>, kind: Kind) -> Self {
        Self { raw_id, kind, stays: 0 }
    }
}
