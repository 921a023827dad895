//! What stands in the place of a masked value.

use std::fmt;

use ring::hmac;

/// How a value is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Null.
    Null,
    /// A keyed hash of its text: equal values stay equal, and can be joined.
    Hash,
    /// So many characters of its text, the first ones.
    First(u32),
}

impl Mask {
    /// More characters than these hide little.
    const FIRST_MAX: u32 = 1_000;

    /// As configured: `null`, `hash`, `first_4`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "null" => Some(Self::Null),
            "hash" => Some(Self::Hash),
            _ => {
                let digits = text.strip_prefix("first_")?;
                let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
                let number = number.parse().ok()?;
                (1..=Self::FIRST_MAX).contains(&number).then_some(Self::First(number))
            }
        }
    }

    /// Whether a text stands in the value's place.
    pub const fn makes_text(self) -> bool {
        !matches!(self, Self::Null)
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Hash => f.write_str("hash"),
            Self::First(number) => write!(f, "first_{number}"),
        }
    }
}

/// The secret that hashes of masked values are keyed by: without it, whoever knows what a value may
/// be could hash that and compare.
#[derive(Clone)]
pub struct MaskKey(hmac::Key);

impl MaskKey {
    /// Fewer bytes can be guessed.
    pub const BYTES_MIN: usize = 16;

    /// `None` if the secret is too short to be one.
    pub fn new(secret: &[u8]) -> Option<Self> {
        (secret.len() >= Self::BYTES_MIN).then(|| Self(hmac::Key::new(hmac::HMAC_SHA256, secret)))
    }

    /// The first 32 hexadecimal digits of HMAC-SHA256.
    pub(super) fn digits(&self, text: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, text);
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(tag.as_ref()) {
            for (digit, nibble) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
            }
        }
        digits
    }
}

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
