//! What a stream leaves out of its documents, and hides in them, before anything is made of them.
//!
//! Raw BSON goes in and raw BSON comes out, so that typed columns, `doc`, `_hash`, drift and dead
//! letters are all made of the same redacted document. Paths lead through arrays, as those of
//! MongoDB's `$project` do. `_id` is always kept as it is. Nothing here is asked of a stream that
//! hides nothing.

mod evidence;
mod mask;
mod redact;
mod tree;

pub use evidence::Evidence;
pub use mask::{Mask, MaskKey};
pub use redact::{Hidden, Redaction};
pub use tree::{FieldPath, is_there, leads_into, parse_path};

#[cfg(test)]
mod tests;
