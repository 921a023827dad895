//! The text of any value: what a mask is of.

use super::bound::{Bound, Unwritable};
use super::column::text;
use super::json::encode_value;
use crate::model::bson::{Value, kind};

/// Appends what a `text` column holds of a value, U+0000 replaced as there; of what does not fit
/// into one, its JSON as `doc` is sent it, a base64 without its quotes.
///
/// # Errors
/// The value is not BSON; the bound is passed.
pub fn encode_text(value: Value<'_>, bound: Bound, out: &mut Vec<u8>) -> Result<(), Unwritable> {
    let start = out.len();
    if text(value, bound.end, out).is_none() {
        out.truncate(start);
        encode_value(value, bound, out)?;
        if value.kind == kind::BINARY {
            out.pop();
            out.remove(start);
        }
    }
    if out.len() > bound.end { Err(Unwritable::Bytes) } else { Ok(()) }
}
