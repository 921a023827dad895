//! Lengths as counts.

/// A length as a count, which is kept and shown as 64 bits on every machine.
pub fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
