//! `_id` as the text of the primary key.

use super::json::{encode_canonical, encode_string_losslessly, write_hex};
use crate::model::bson::{Malformed, Value, kind};

/// An `_id` that cannot be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoId {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("an array cannot be an _id")]
    Array,
}

/// Writes the `id` of an `_id`: a string as it is, an `ObjectId` as 24 hex digits, the rest as canonical Extended
/// JSON. A string that reads like one of the others is written as a JSON string, so distinct `_id`s stay distinct.
///
/// # Errors
/// The value is malformed, or an array (which no server accepts as `_id`).
pub fn encode_id(id: Value<'_>, out: &mut Vec<u8>) -> Result<(), NoId> {
    match id.kind {
        kind::STRING => {
            let text = id.as_text().ok_or(Malformed("string does not match its length"))?;
            if is_plain(text) {
                out.extend_from_slice(text);
            } else {
                encode_string_losslessly(text, out);
            }
        }
        kind::OBJECT_ID => write_hex(id.bytes, out),
        kind::ARRAY => return Err(NoId::Array),
        _ => encode_canonical(id, out)?,
    }
    Ok(())
}

/// Whether a string can stand for itself: it reads like no other `id`, and Postgres can store it.
fn is_plain(text: &[u8]) -> bool {
    let object_id = text.len() == 24 && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let json = matches!(text.first(), Some(b'{' | b'"')) || matches!(text, b"true" | b"false" | b"null");
    !object_id && !json && !text.contains(&0) && std::str::from_utf8(text).is_ok()
}
