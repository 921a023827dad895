//! The order of a walk: by BSON type class, then by `_id`. Pure.
//!
//! A comparison with `$gt` sees only ids of its own class, so each class is walked on its own.

use crate::model::bson::{Builder, Doc, Value, kind};
use crate::model::value::{decode_id, encode_id};

/// One class of `_id`s that compare with each other: its `$type` aliases.
struct TypeClass {
    types: &'static [&'static str],
    /// Only one such `_id` can exist, and comparing with it would leave the class.
    single: bool,
}

const fn class(types: &'static [&'static str]) -> TypeClass {
    TypeClass { types, single: false }
}

const fn single(types: &'static [&'static str]) -> TypeClass {
    TypeClass { types, single: true }
}

/// In the server's own order. Arrays, regular expressions and undefined are no `_id`s.
const CLASSES: &[TypeClass] = &[
    single(&["minKey"]),
    single(&["null"]),
    class(&["double", "int", "long", "decimal"]),
    class(&["string", "symbol"]),
    class(&["object"]),
    class(&["binData"]),
    class(&["objectId"]),
    class(&["bool"]),
    class(&["date"]),
    class(&["timestamp"]),
    class(&["dbPointer"]),
    class(&["javascript"]),
    class(&["javascriptWithScope"]),
    single(&["maxKey"]),
];

/// How far a walk has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    class: usize,
    /// The last `_id` read in the class, as `{"": _id}`.
    after: Option<Vec<u8>>,
}

impl Place {
    /// As stored; a place beyond the last class is the end.
    pub fn restore(class: i32, after: Option<Vec<u8>>) -> Self {
        Self { class: usize::try_from(class).unwrap_or(usize::MAX), after }
    }

    pub fn class(&self) -> i32 {
        i32::try_from(self.class).unwrap_or(i32::MAX)
    }

    pub fn after(&self) -> Option<&[u8]> {
        self.after.as_deref()
    }

    fn id(&self) -> Option<Value<'_>> {
        Doc::new(self.after.as_deref()?).ok()?.get("").ok()?
    }

    /// The `id` that a row of the last document read has.
    pub fn row(&self) -> Option<String> {
        let mut text = Vec::with_capacity(24);
        encode_id(self.id()?, &mut text).ok()?;
        String::from_utf8(text).ok()
    }

    /// The place in the same class where this row's document is the last one read; `None` where its
    /// `_id` is of another class, or cannot be told from the row's `id`.
    pub fn at_row(&self, row: &str) -> Option<Self> {
        let place = Self { class: self.class, after: Some(decode_id(row)?) };
        let name = match place.id()?.kind {
            kind::STRING => "string",
            kind::OBJECT_ID => "objectId",
            _ => return None,
        };
        CLASSES.get(self.class)?.types.contains(&name).then_some(place)
    }

    /// The filter of the next find, as far as `end` if that is given; `None` at the end of the
    /// walk.
    pub fn filter(&self, end: Option<&Self>) -> Option<Builder> {
        let class = CLASSES.get(self.class)?;
        let condition = match self.id() {
            Some(id) if is_nan(id) => {
                // NaN is the least of all numbers, and nothing compares as greater than it.
                let least = f64::NEG_INFINITY.to_le_bytes();
                Builder::default().value("$gte", Value { kind: kind::DOUBLE, bytes: &least })
            }
            Some(id) => Builder::default().value("$gt", id),
            None => {
                let mut digits = itoa::Buffer::new();
                let types = class.types.iter().enumerate();
                let list = types
                    .fold(Builder::default(), |list, (i, name)| list.text(digits.format(i), name));
                Builder::default().array("$type", list)
            }
        };
        let condition = match end.and_then(Self::id) {
            Some(last) => condition.value("$lte", last),
            None => condition,
        };
        Some(Builder::default().document("_id", condition))
    }

    /// The place after a chunk that ended with `last`; `more` if the class may hold more.
    #[must_use]
    pub fn after_chunk(&self, last: Option<Value<'_>>, more: bool) -> Self {
        let single = CLASSES.get(self.class).is_some_and(|class| class.single);
        match last {
            Some(id) if more && !single => {
                Self { class: self.class, after: Some(Builder::default().value("", id).finish()) }
            }
            _ => Self { class: self.class + 1, after: None },
        }
    }

    pub const fn is_end(&self) -> bool {
        self.class >= CLASSES.len()
    }
}

fn is_nan(id: Value<'_>) -> bool {
    match id.kind {
        kind::DOUBLE => id.as_f64().is_some_and(f64::is_nan),
        // Decimal128: the five bits after the sign are all set.
        kind::DECIMAL128 => id.bytes.last().is_some_and(|top| top & 0x7c == 0x7c),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_visits_every_class_once_and_stays_where_there_is_more() {
        let mut place = Place::default();
        let seven = 7_i32.to_le_bytes();
        let id = Value { kind: kind::INT32, bytes: &seven };
        let mut visited = 0;
        while place.filter(None).is_some() {
            visited += 1;
            place = place.after_chunk(None, false);
        }
        assert_eq!(visited, CLASSES.len());
        assert!(place.is_end());
        let numbers = Place { class: 2, after: None }.after_chunk(Some(id), true);
        assert_eq!(numbers.class, 2);
        assert_eq!(Place::restore(numbers.class(), numbers.after().map(<[u8]>::to_vec)), numbers);
        assert_eq!(Place { class: 0, after: None }.after_chunk(Some(id), true).class, 1);
    }

    #[test]
    fn after_nan_come_the_other_numbers() {
        let nan = f64::NAN.to_le_bytes();
        let place = Place { class: 2, after: None }
            .after_chunk(Some(Value { kind: kind::DOUBLE, bytes: &nan }), true);
        let filter = place.filter(None).unwrap().finish();
        assert!(filter.windows(4).any(|w| w == b"$gte"));
    }
}
