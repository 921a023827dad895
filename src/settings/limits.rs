//! `[record]`: what a record may be, how many may be set aside, and what masked values are hashed
//! with.

use super::secret::Secret;
use super::values::Reader;
use crate::model::redaction::MaskKey;

/// The key of the secret that masked values are hashed with.
pub(super) const MASK_KEY: &str = "record.mask_key";

#[derive(Debug, Clone, Copy)]
pub struct Record {
    pub dead_letter_fraction_max: f64,
    pub dead_letter_count_min: u64,
}

impl Record {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            dead_letter_fraction_max: r.fraction("record.dead_letter_fraction_max"),
            dead_letter_count_min: r.integer("record.dead_letter_count_min"),
        }
    }
}

/// How large a document may be: one that is larger is set aside.
#[derive(Debug, Clone, Copy)]
pub struct RowLimits {
    /// Fields of documents, at any depth.
    pub fields_max: usize,
    /// Of the row as it is sent.
    pub bytes_max: usize,
}

impl RowLimits {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            fields_max: r.count("record.fields_max", 1, 10_000_000),
            bytes_max: r.size("record.row_bytes_max", 64 << 10, 256 << 20),
        }
    }
}

/// The key of masks' hashes, if there is one.
pub(super) fn read_mask_key(r: &mut Reader) -> Option<MaskKey> {
    let secret: Secret = r.secret(MASK_KEY);
    let key = MaskKey::new(secret.expose().as_bytes());
    let least = MaskKey::BYTES_MIN;
    let message = format!("must be at least {least} bytes long: `openssl rand -hex 32` makes one");
    r.check(MASK_KEY, key.is_some() || secret.is_empty(), &message);
    key
}
