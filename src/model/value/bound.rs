//! How large what is written of one document may become: no document's size or shape decides what
//! it costs.

use crate::model::bson::Malformed;
use crate::model::dead_letter_code::DeadLetterCode;

/// Why a document cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the document has more fields than record.fields_max")]
    Fields,
    #[error("its row would be larger than record.row_bytes_max")]
    Bytes,
}

impl Unwritable {
    /// The code of its dead letter.
    pub const fn code(self) -> DeadLetterCode {
        match self {
            Self::Malformed(_) => DeadLetterCode::Malformed,
            Self::Fields | Self::Bytes => DeadLetterCode::TooLarge,
        }
    }
}

/// What is left of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Fields of documents, at any depth; items of arrays are none.
    pub fields: usize,
    /// How long the buffer that is written to may become.
    pub end: usize,
}

impl Bound {
    pub const NONE: Self = Self { fields: usize::MAX, end: usize::MAX };
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc};

    use super::*;
    use crate::model::bson::{Doc, Value, kind};
    use crate::model::value::{ColumnType, Fit, encode_column, encode_id, encode_value};

    fn written(value: Bson, bound: Bound) -> (Result<(), Unwritable>, usize) {
        let bytes = doc! { "v": value }.to_vec().unwrap();
        let mut out = Vec::new();
        let value = Doc::new(&bytes).unwrap().get("v").unwrap().unwrap();
        (encode_value(value, bound, &mut out).map(drop), out.capacity())
    }

    #[test]
    fn fields_are_counted_at_any_depth_and_items_are_none() {
        let nested: Bson = doc! { "a": { "b": [1, 2, 3, { "c": 1 }] }, "d": 1 }.into();
        let of = |fields| written(nested.clone(), Bound { fields, ..Bound::NONE }).0;
        assert_eq!((of(4), of(3)), (Ok(()), Err(Unwritable::Fields)));
    }

    #[test]
    fn what_grows_while_it_is_written_ends_at_the_bound() {
        let bound = Bound { end: 100_000, ..Bound::NONE };
        let control = "\u{1}".repeat(1 << 20);
        let items = vec![Bson::Int32(7); 300_000];
        for value in [Bson::from(control.clone()), items.into(), vec![control.clone()].into()] {
            let (result, held) = written(value, bound);
            assert_eq!(result, Err(Unwritable::Bytes));
            assert!(held < 300_000, "{held}");
        }
        assert!(written("\u{1}".repeat(16_000).into(), bound).0.is_ok());
        let zeros = vec![0_u8; 1 << 20];
        let text = [&i32::to_le_bytes((1 << 20) + 1)[..], &zeros, &[0]].concat();
        let value = Value { kind: kind::STRING, bytes: &text };
        for column in [ColumnType::Text, ColumnType::Jsonb] {
            let mut out = Vec::new();
            assert_eq!(encode_column(Some(value), column, bound, &mut out), Fit::TooLarge);
            assert!(out.is_empty() && out.capacity() < 300_000, "{column:?} {}", out.capacity());
        }
        assert!(encode_id(value, &mut Vec::new()).is_err(), "no index holds such an id");
    }
}
