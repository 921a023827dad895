//! Values: how a document becomes what Postgres receives. Contract: `docs/reference.md`, "Followed
//! tables".
//!
//! Everything here writes from raw BSON into one buffer, in Postgres's binary format, and builds no
//! tree. Invariants: distinct `_id`s never share an `id`; a document that BSON can hold always
//! lands.

mod binary;
mod bound;
mod cell;
mod column;
mod date;
mod id;
mod json;
mod layout;
mod numeric;
mod scan;
mod text;
mod zone;

pub use binary::{array_literal, read_field};
pub use bound::{Bound, Unwritable};
pub use cell::encode_cell;
pub(crate) use column::find;
pub use column::{ColumnType, Fit, encode_column};
pub use date::{days_from_civil, rfc3339_millis};
pub use id::{NoId, asked_for, decode_id, document_id, encode_id};
pub use json::{Encoded, encode_value};
pub use layout::Layout;
pub use numeric::encode_numeric;
pub use text::encode_text;
pub use zone::{Zone, encode_day};

/// Nesting beyond this is not BSON a server accepts (its own limit is 180 levels).
pub const DEPTH_MAX: usize = 200;

#[cfg(test)]
mod corpus;
