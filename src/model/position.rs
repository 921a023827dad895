//! A position: a resume token and the cluster time it stands for.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use twox_hash::XxHash3_64;

use super::bson::{Builder, Doc, Malformed};

/// MongoDB's cluster time, `seconds << 32 | increment`; also the unit of `_cluster_time` in
/// followed tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterTime(u64);

/// No row is rightly stamped further ahead of the source's clock than this: a day.
const AHEAD_MAX: u64 = 86_400 << 32;

impl ClusterTime {
    /// Later than any time of a source.
    pub const END: Self = Self(i64::MAX.cast_unsigned());

    pub const fn new(packed: u64) -> Self {
        Self(packed)
    }

    pub const fn packed(self) -> u64 {
        self.0
    }

    /// For a `bigint` column. Order is kept until 2038-01-19; past it, as MongoDB's own timestamps,
    /// the sign bit is in use.
    pub const fn to_sql(self) -> i64 {
        self.0.cast_signed()
    }

    pub const fn from_sql(value: i64) -> Self {
        Self(value.cast_unsigned())
    }

    pub const fn seconds(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub const fn increment(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
        let increment = self.0 as u32;
        increment
    }

    pub fn at(self) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::from(self.seconds()), 0).unwrap_or_default()
    }

    /// The time after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The time before this one.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// What is stamped later than this is stamped with no time of a source whose clock is at this.
    #[must_use]
    pub const fn ahead_max(self) -> Self {
        Self(self.0.saturating_add(AHEAD_MAX))
    }

    /// Whole seconds from `earlier` to this; negative if it is later.
    pub fn seconds_since(self, earlier: Self) -> f64 {
        f64::from(self.seconds()) - f64::from(earlier.seconds())
    }
}

impl fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seconds(), self.increment())
    }
}

/// A resume token as the server gave it: a BSON document, usually `{_data: "82…"}`. Opaque but
/// for its time.
#[derive(Clone, PartialEq, Eq)]
pub struct ResumeToken(Arc<[u8]>);

impl ResumeToken {
    /// # Errors
    /// The bytes are not one BSON document.
    pub fn new(bytes: &[u8]) -> Result<Self, Malformed> {
        let doc = Doc::new(bytes)?;
        if doc.elements().next().is_none() {
            return Err(Malformed("an empty document is no resume token"));
        }
        Ok(Self(bytes.into()))
    }

    /// A token from its `_data` as hex, the way MongoDB and `DocumentDB` write it.
    pub fn of_text(data: &str) -> Self {
        Self(Builder::default().text("_data", data).finish().into())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The token whole: its `_data`, as hex. An event's holds the `_id` of its document, so this is
    /// for the database and for who asks for the position itself; all else shows [`brief`].
    pub fn text(&self) -> String {
        let data = Doc::new(&self.0).ok().and_then(|doc| doc.get("_data").ok().flatten());
        match data {
            Some(value) => value
                .as_str()
                .map_or_else(|| hex(value.bytes.get(5..).unwrap_or_default()), str::to_owned),
            None => hex(&self.0),
        }
    }

    /// The cluster time in the token: after a type byte (`82` MongoDB, `01` DocumentDB), 8 bytes
    /// big-endian. `None` for a token of another making: its age is unknown.
    pub fn cluster_time(&self) -> Option<ClusterTime> {
        time_of(&self.text())
    }
}

impl ResumeToken {
    /// Whether it is that of an empty reply, which is a time and nothing else: it can be resumed
    /// after whatever collections are followed. An event's token is longer.
    pub fn is_of_no_event(&self) -> bool {
        let text = self.text();
        // After the time come the token's version and its kind, which is zero for one of no event.
        let kind = text.get(TIME_END + 4..TIME_END + 6);
        time_of(&text).is_some() && kind.is_none_or(|kind| kind == "29")
    }
}

impl fmt::Debug for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResumeToken({})", brief(&self.text()))
    }
}

/// Characters of a token's hex that tell its making and its time.
const TIME_END: usize = 18;

fn time_of(token: &str) -> Option<ClusterTime> {
    if !token.starts_with("82") && !token.starts_with("01") {
        return None;
    }
    let packed = unhex(token.get(2..TIME_END)?)?;
    Some(ClusterTime(u64::from_be_bytes(packed.try_into().ok()?)))
}

/// A token's text as it is shown: `826B068BD500000001…#3f9a`, its making and time and a hash of
/// the whole. The hash tells two tokens apart and is too short to find the `_id` by.
pub fn brief(token: &str) -> String {
    let time = time_of(token).and_then(|_| token.get(..TIME_END)).unwrap_or_default();
    format!("{time}…#{:04x}", XxHash3_64::oneshot(token.as_bytes()) & 0xffff)
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Bytes from hex; `None` if it is none.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    // `from_str_radix` would take a sign for a digit.
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// Where a stream is. Committed only together with the rows it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub token: ResumeToken,
    pub cluster_time: ClusterTime,
}

impl Position {
    /// The position a token stands for; `fallback` is its time if the token does not tell.
    pub fn of(token: ResumeToken, fallback: ClusterTime) -> Self {
        let cluster_time = token.cluster_time().unwrap_or(fallback);
        Self { token, cluster_time }
    }

    /// The position of a change stream that was opened from now on. Seen on MongoDB 6.0.5: the
    /// token's time is the one *after* the server's last entry, and what is written next may have
    /// it; so not that time is reached, but the one before it.
    pub fn of_opening(token: ResumeToken, fallback: ClusterTime) -> Self {
        let Self { token, cluster_time } = Self::of(token, fallback);
        Self { token, cluster_time: cluster_time.before() }
    }
}

/// Whether a token made under some options, as text, can be resumed after under others. The mode
/// of post-images may change: seen on MongoDB 6.0.5, no token is bound to it, be it an event's or
/// an empty reply's.
pub fn resumes_under(made_under: &str, options: &str) -> bool {
    fn binding(options: &str) -> impl Iterator<Item = &str> {
        options.split(' ').filter(|word| !word.starts_with("post_image="))
    }
    binding(made_under).eq(binding(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> ResumeToken {
        let mut bytes = vec![0; 4];
        bytes.extend_from_slice(b"\x02_data\0");
        bytes.extend_from_slice(&u32::try_from(text.len() + 1).unwrap().to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&[0, 0]);
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        ResumeToken::new(&bytes).unwrap()
    }

    #[test]
    fn the_time_is_read_from_tokens_of_both_servers_and_from_no_other() {
        let mongodb = token("8265A1B2C3000000052B022C0100296E04");
        let expected = ClusterTime::new(0x65A1_B2C3 << 32 | 5);
        assert_eq!(mongodb.cluster_time(), Some(expected));
        assert_eq!((expected.seconds(), expected.increment()), (0x65A1_B2C3, 5));
        assert_eq!(token("0165A1B2C30000000501").cluster_time(), Some(expected));
        assert_eq!(token("9965A1B2C30000000501").cluster_time(), None);
        assert_eq!(token("82").cluster_time(), None);
        assert_eq!(token("82€€€€€€€€€").cluster_time(), None);
    }

    #[test]
    fn a_token_is_shown_by_its_time_and_a_hash_and_never_by_the_id_it_holds() {
        let one =
            token("826B068BD5000000012B042C0100296E5A1004C0463C5F6964003C31323334353637000004");
        let two =
            token("826B068BD5000000012B042C0100296E5A1004C0463C5F6964003C37363534333231000004");
        let (shown, other) = (brief(&one.text()), brief(&two.text()));
        assert!(
            shown.starts_with("826B068BD500000001…#") && shown.chars().count() == 24,
            "{shown}"
        );
        assert_ne!(shown, other);
        assert_eq!(format!("{one:?}"), format!("ResumeToken({shown})"));
        assert_eq!(
            brief("1234567").chars().count(),
            6,
            "of another making nothing is known to be a time"
        );
        assert_eq!(brief("82€€€€€€€€€").chars().count(), 6);
    }

    #[test]
    fn a_token_is_bound_to_every_option_but_the_mode_of_images() {
        let now = "v1 post_image=lookup";
        for made_under in [now, "v1 post_image=required"] {
            assert!(resumes_under(made_under, now), "{made_under}");
        }
        for made_under in ["v1 post_image=lookup heartbeat=h", "v0 post_image=lookup", "v0", ""] {
            assert!(!resumes_under(made_under, now), "{made_under}");
        }
    }

    #[test]
    fn a_token_of_no_event_is_told_from_one_of_an_event() {
        let event = "8265A1B2C3000000052B022C0100296E5A1004C0463C5F6964003C31000004";
        assert!(!token(event).is_of_no_event());
        assert!(token("8265A1B2C3000000052B0229296E04").is_of_no_event());
        assert!(
            token("0165A1B2C30000000501").is_of_no_event(),
            "of a server that tells a time alone"
        );
        assert!(!token("9965A1B2").is_of_no_event());
    }

    #[test]
    fn a_sign_is_no_hex_digit() {
        for text in ["66+b", "+b", "-0", "+0"] {
            assert_eq!(unhex(text), None, "{text}");
        }
        assert_eq!(unhex("00fF"), Some(vec![0, 0xff]));
        assert_eq!(token("82+5A1B2C300000005").cluster_time(), None);
    }

    #[test]
    fn a_token_that_is_no_document_is_refused() {
        assert!(ResumeToken::new(b"").is_err());
        assert!(ResumeToken::new(b"\x05\0\0\0\0").is_err());
        assert!(ResumeToken::new(b"garbage").is_err());
    }
}
