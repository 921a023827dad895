//! What documents with the same fields in the same order have in common, found out once: a
//! collection has few shapes, and what a shape tells is half of what encoding a document would
//! cost.

use std::sync::Arc;

use crate::model::bson::Value;
use crate::model::value::Layout;

/// A field of a document: its key and its value.
pub(super) type Field<'a> = (&'a [u8], Value<'a>);

/// How documents with just these keys become rows under one mapping.
#[derive(Debug)]
pub(super) struct Shape {
    /// Of the mapping.
    seed: u64,
    /// Each with its terminator, as BSON has them.
    keys: Vec<u8>,
    /// By slot of the mapping's heads, where among the fields it is; of equal keys the last counts.
    pub heads: Vec<Option<usize>>,
    /// The places of fields that no column reads.
    pub unmapped: Vec<usize>,
    /// `None` where documents keep data in their keys, so that none is like another.
    pub layout: Option<Layout>,
}

impl Shape {
    fn new(seed: u64, heads: &[Box<str>], fields: &[Field<'_>], is_shared: bool) -> Self {
        let is_at = |head: &str, key: &[u8]| head.as_bytes() == key;
        let place = |head| fields.iter().rposition(|(key, _)| is_at(head, key));
        let is_mapped = |key: &[u8]| key == b"_id" || heads.iter().any(|head| is_at(head, key));
        let unmapped = fields
            .iter()
            .enumerate()
            .filter(|(_, (key, _))| !is_mapped(key))
            .map(|(place, _)| place);
        Self {
            seed,
            keys: if is_shared { keys_of(fields).collect() } else { Vec::new() },
            heads: heads.iter().map(|head| place(head)).collect(),
            unmapped: unmapped.collect(),
            layout: is_shared.then(|| Layout::new(fields.iter().map(|(key, _)| *key))),
        }
    }

    fn is_of(&self, seed: u64, fields: &[Field<'_>]) -> bool {
        let mut rest = self.keys.as_slice();
        let has = |(key, _): &Field<'_>| match rest.strip_prefix(*key).and_then(<[u8]>::split_first)
        {
            Some((0, after)) => {
                rest = after;
                true
            }
            _ => false,
        };
        self.seed == seed && fields.iter().all(has) && rest.is_empty()
    }
}

fn keys_of<'f>(fields: &'f [Field<'_>]) -> impl Iterator<Item = u8> + 'f {
    fields.iter().flat_map(|(key, _)| key.iter().copied().chain([0]))
}

/// The shapes met last.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    known: Vec<Arc<Shape>>,
    /// The one to be forgotten next.
    oldest: usize,
}

impl Shapes {
    /// Of one stream's documents; optional fields make a few.
    const NUMBER_MAX: usize = 8;

    /// A document whose keys are longer together keeps data in them: nothing is made of them that
    /// would serve no other, a block of memory for each key.
    const KEYS_MAX: usize = 4 << 10;

    /// The shape of a document with these fields, under the mapping with this seed and these heads.
    pub fn of(&mut self, seed: u64, heads: &[Box<str>], fields: &[Field<'_>]) -> Arc<Shape> {
        if let Some(known) = self.known.iter().find(|shape| shape.is_of(seed, fields)) {
            return Arc::clone(known);
        }
        let is_shared = keys_of(fields).nth(Self::KEYS_MAX).is_none();
        let shape = Arc::new(Shape::new(seed, heads, fields, is_shared));
        if !is_shared {
            return shape;
        }
        if self.known.len() < Self::NUMBER_MAX {
            self.known.push(Arc::clone(&shape));
        } else if let Some(forgotten) = self.known.get_mut(self.oldest) {
            *forgotten = Arc::clone(&shape);
            self.oldest = (self.oldest + 1) % Self::NUMBER_MAX;
        }
        shape
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bson::kind;

    fn fields<'a>(keys: &[&'a str]) -> Vec<Field<'a>> {
        keys.iter().map(|key| (key.as_bytes(), Value { kind: kind::NULL, bytes: &[] })).collect()
    }

    fn heads(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    #[test]
    fn a_shape_is_of_the_same_keys_in_the_same_order_under_the_same_mapping() {
        let mut shapes = Shapes::default();
        let ab = shapes.of(1, &[], &fields(&["a", "b"]));
        assert!(Arc::ptr_eq(&ab, &shapes.of(1, &[], &fields(&["a", "b"]))));
        let others = [
            &["b", "a"][..],
            &["a"],
            &["a", "b", "c"],
            &["ab"],
            &["a", "b\0"],
            &["", "a", "b"],
            &[],
        ];
        for other in others {
            assert!(!Arc::ptr_eq(&ab, &shapes.of(1, &[], &fields(other))), "{other:?}");
        }
        assert!(!Arc::ptr_eq(&ab, &shapes.of(2, &[], &fields(&["a", "b"]))), "another mapping");
    }

    #[test]
    fn heads_are_found_by_name_and_the_last_of_equal_keys_counts() {
        let heads = heads(&["b", "none", "a"]);
        let shape = Shapes::default().of(1, &heads, &fields(&["_id", "a", "x", "b", "a"]));
        assert_eq!(shape.heads, [Some(3), None, Some(4)]);
        assert_eq!(shape.unmapped, [2], "the id is no field that a column misses");
    }

    #[test]
    fn few_are_kept_and_none_of_documents_that_keep_data_in_their_keys() {
        let mut shapes = Shapes::default();
        let names: Vec<String> = (0..900).map(|n| format!("k{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let first = shapes.of(1, &[], &fields(&names[..1]));
        let _ = shapes.of(1, &[], &fields(&names));
        let _ = shapes.of(1, &[], &fields(&[&"long".repeat(Shapes::KEYS_MAX)]));
        for number in 2..=Shapes::NUMBER_MAX {
            let _ = shapes.of(1, &[], &fields(&names[..number]));
        }
        assert!(Arc::ptr_eq(&first, &shapes.of(1, &[], &fields(&names[..1]))));
        let _ = shapes.of(1, &[], &fields(&names[..=Shapes::NUMBER_MAX]));
        assert!(
            !Arc::ptr_eq(&first, &shapes.of(1, &[], &fields(&names[..1]))),
            "the oldest made room"
        );
        assert_eq!(shapes.known.len(), Shapes::NUMBER_MAX);
    }
}
