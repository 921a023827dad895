//! `_id` as the text of the primary key.

use super::bound::{Bound, Unwritable};
use super::json::{encode_canonical, encode_string_losslessly};
use super::scan::write_hex;
use crate::model::bson::{Builder, Doc, Malformed, Value, kind};

/// An `_id` that cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoId {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("an array cannot be an _id")]
    Array,
    #[error("an _id of more than a megabyte cannot be a key")]
    TooLarge,
}

impl From<Unwritable> for NoId {
    fn from(why: Unwritable) -> Self {
        match why {
            Unwritable::Malformed(malformed) => Self::Malformed(malformed),
            Unwritable::Fields | Unwritable::Bytes => Self::TooLarge,
        }
    }
}

/// No index of Postgres holds a longer one, however well it compresses.
const ID_BYTES_MAX: usize = 1 << 20;

/// Writes the `id` of an `_id`: a string as it is, an `ObjectId` as 24 hex digits, the rest as
/// canonical Extended JSON. A string that reads like one of the others is written as a JSON string,
/// so distinct `_id`s stay distinct.
///
/// # Errors
/// The value is malformed, an array (which no server accepts as `_id`), or longer than any key may
/// be.
pub fn encode_id(id: Value<'_>, out: &mut Vec<u8>) -> Result<(), NoId> {
    if id.bytes.len() > ID_BYTES_MAX {
        return Err(NoId::TooLarge);
    }
    let bound = Bound { end: out.len() + ID_BYTES_MAX, ..Bound::NONE };
    match id.kind {
        kind::STRING => {
            let text = id.as_text().ok_or(Malformed("string does not match its length"))?;
            if is_plain(text) {
                out.extend_from_slice(text);
            } else {
                encode_string_losslessly(text, bound, out)?;
            }
        }
        kind::OBJECT_ID => write_hex(id.bytes, out),
        kind::ARRAY => return Err(NoId::Array),
        _ => encode_canonical(id, bound, out)?,
    }
    Ok(())
}

/// The `_id` that an `id` was written for, as `{"": _id}`; `None` where no `_id` is written so, or
/// where it cannot be told (a string that was not UTF-8).
pub fn decode_id(id: &str) -> Option<Vec<u8>> {
    if is_plain(id.as_bytes()) {
        return Some(Builder::default().text("", id).finish());
    }
    let decoded = match <&[u8; 24]>::try_from(id.as_bytes()) {
        Ok(digits) if !id.starts_with(['{', '"']) => object_id(digits)?,
        _ => {
            let id: bson::Bson = serde_json::from_str(id).ok()?;
            bson::serialize_to_vec(&bson::doc! { "": id }).ok()?
        }
    };
    // What would be written otherwise was written for another.
    let mut written = Vec::with_capacity(id.len());
    encode_id(Doc::new(&decoded).ok()?.get("").ok()??, &mut written).ok()?;
    (written == id.as_bytes()).then_some(decoded)
}

/// The `_id` in `{"": _id}`, as [`decode_id`] answers it, where documents can be asked for by it:
/// in a list, a regular expression would mean whatever it matches.
pub fn asked_for(decoded: &[u8]) -> Option<Value<'_>> {
    let value = Doc::new(decoded).ok()?.get("").ok()??;
    (value.kind != kind::REGEX).then_some(value)
}

/// The row's id of a document, if it has one.
pub fn document_id(document: &[u8]) -> Option<String> {
    let mut id = Vec::with_capacity(24);
    encode_id(Doc::new(document).ok()?.get("_id").ok()??, &mut id).ok()?;
    String::from_utf8(id).ok()
}

fn object_id(digits: &[u8; 24]) -> Option<Vec<u8>> {
    let mut bytes = [0; 12];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(Builder::default().value("", Value { kind: kind::OBJECT_ID, bytes: &bytes }).finish())
}

/// Whether a string can stand for itself: it reads like no other `id`, and Postgres can store it.
fn is_plain(text: &[u8]) -> bool {
    let object_id = text.len() == 24 && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let json =
        matches!(text.first(), Some(b'{' | b'"')) || matches!(text, b"true" | b"false" | b"null");
    !object_id && !json && !text.contains(&0) && std::str::from_utf8(text).is_ok()
}
