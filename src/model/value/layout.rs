//! A document's fields in the order they are written: what all documents with the same keys share.

use super::bound::{Bound, Unwritable};
use super::json::{Dialect, Encoded, Writer, jsonb_order};
use crate::model::bson::{Malformed, Value};

/// What is the same in the plain JSON of all documents with the same keys in the same order.
#[derive(Debug)]
pub struct Layout {
    /// In the order they are written: what comes before the value, and where among the fields it
    /// is.
    fields: Vec<(Box<[u8]>, usize)>,
    /// Of the keys.
    encoded: Encoded,
}

impl Layout {
    pub fn new<'k>(keys: impl Iterator<Item = &'k [u8]>) -> Self {
        let mut sorted: Vec<(usize, &[u8])> = keys.enumerate().collect();
        sorted.sort_by(|(_, a), (_, b)| jsonb_order(a, b));
        let mut encoded = Encoded::default();
        let write = |(index, (place, key)): (usize, (usize, &[u8]))| {
            let mut name = vec![if index == 0 { b'{' } else { b',' }];
            let mut writer = Writer::new(&mut name, Dialect::Plain, Bound::NONE);
            writer.text(key);
            encoded.replaced += writer.encoded.replaced;
            name.push(b':');
            (name.into_boxed_slice(), place)
        };
        Self { fields: sorted.into_iter().enumerate().map(write).collect(), encoded }
    }

    /// Writes a document of these fields as plain JSON, within a bound of what its values are.
    ///
    /// # Errors
    /// A value is not BSON, or nests deeper than [`DEPTH_MAX`](super::DEPTH_MAX); the bound is
    /// passed.
    pub fn encode(
        &self,
        fields: &[(&[u8], Value<'_>)],
        bound: Bound,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, Unwritable> {
        let mut writer = Writer::new(out, Dialect::Plain, bound);
        writer.encoded = self.encoded;
        for (name, place) in &self.fields {
            writer.raw(name);
            let (_, value) = fields.get(*place).ok_or(Malformed("fewer fields than its layout"))?;
            writer.value(*value, 1)?;
        }
        writer.raw(if self.fields.is_empty() { b"{}" } else { b"}" });
        writer.finish()
    }
}
