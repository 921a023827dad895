//! What mapping notices of fields that are not as configured, counted batch by batch.

use std::collections::HashMap;

use crate::model::bson::{Value, kind};
use crate::model::drift_kind::DriftKind;
use crate::model::field::NAMES_MAX;
use crate::model::value::ColumnType;

/// Why a value does not fit.
pub(super) const fn unfit(value: Value<'_>, column: ColumnType) -> DriftKind {
    let number = matches!(value.kind, kind::INT32 | kind::INT64 | kind::DOUBLE | kind::DECIMAL128);
    let takes = match column {
        ColumnType::Integer | ColumnType::Bigint | ColumnType::Double | ColumnType::Numeric => {
            number
        }
        ColumnType::Date | ColumnType::Timestamptz => matches!(value.kind, kind::DATE),
        ColumnType::Text | ColumnType::Boolean | ColumnType::Jsonb | ColumnType::TextArray => false,
    };
    if takes { DriftKind::Value } else { DriftKind::Type }
}

/// Whether documents had the field that a column reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Presence {
    pub seen: bool,
    /// How many documents in a row lacked it, counted back from the last one.
    pub absent: u64,
}

/// How many fields of one document may be looked for among all names known, because they do not
/// stand where the document before had them. A document that keeps data in its keys has a hundred
/// thousand, and each search goes through all the names.
const SEARCHES_MAX: u32 = 1_000;

/// What mapping noticed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Drift {
    pub documents: u64,
    /// By (column, kind).
    pub fields: HashMap<(usize, DriftKind), u64>,
    /// By column.
    pub presence: Vec<Presence>,
    /// Top-level fields that no column reads, with how many documents have them; at most
    /// [`NAMES_MAX`].
    pub unmapped: Vec<(Box<str>, u64)>,
    /// Documents with fields that are not in `unmapped`, because it was full or too many had to be
    /// looked for.
    pub crowded: u64,
    is_crowded: bool,
    searches: u32,
    /// Where in `unmapped` the next field is expected to stand, since documents mostly have their
    /// fields in one order.
    next: usize,
    /// Characters Postgres cannot store that became U+FFFD.
    pub replaced: u64,
}

impl Drift {
    /// A document begins.
    pub(super) fn begin(&mut self, columns: usize) {
        self.documents += 1;
        (self.next, self.searches, self.is_crowded) = (0, 0, false);
        self.presence.resize(columns, Presence::default());
    }

    pub(super) fn present(&mut self, column: usize, there: bool) {
        if let Some(presence) = self.presence.get_mut(column) {
            *presence = if there {
                Presence { seen: true, absent: 0 }
            } else {
                Presence { seen: presence.seen, absent: presence.absent + 1 }
            };
        }
    }

    /// A field that no column reads.
    pub(super) fn unmapped(&mut self, key: &[u8]) {
        let is = |known: &(Box<str>, u64)| known.0.as_bytes() == key;
        let here = self.unmapped.get(self.next).is_some_and(is);
        let place = if here {
            Some(self.next)
        } else if self.searches < SEARCHES_MAX {
            self.searches += 1;
            self.unmapped.iter().position(is)
        } else {
            None
        };
        if let Some((_, number)) = place.and_then(|place| self.unmapped.get_mut(place)) {
            *number += 1;
            self.next = place.map_or(0, |place| place + 1);
        } else if !is_a_name(key) {
        } else if self.unmapped.len() < NAMES_MAX && self.searches < SEARCHES_MAX {
            self.unmapped.push((String::from_utf8_lossy(key).into(), 1));
            self.next = self.unmapped.len();
        } else if !self.is_crowded {
            self.is_crowded = true;
            self.crowded += 1;
        }
    }

    /// Adds what was noticed of later documents.
    pub fn add(&mut self, later: Self) {
        self.documents += later.documents;
        for (field, number) in later.fields {
            *self.fields.entry(field).or_default() += number;
        }
        self.presence.resize(self.presence.len().max(later.presence.len()), Presence::default());
        for (mine, later) in self.presence.iter_mut().zip(later.presence) {
            let absent = if later.seen { later.absent } else { mine.absent + later.absent };
            *mine = Presence { seen: mine.seen || later.seen, absent };
        }
        for (name, number) in later.unmapped {
            if let Some((_, known)) = self.unmapped.iter_mut().find(|(known, _)| *known == name) {
                *known += number;
            } else if self.unmapped.len() < NAMES_MAX {
                self.unmapped.push((name, number));
            } else {
                self.crowded = self.crowded.max(number);
            }
        }
        self.crowded += later.crowded;
        self.replaced += later.replaced;
    }

    pub const fn is_empty(&self) -> bool {
        self.documents == 0
    }
}

/// Keys that are data (a person's number, an address) are not repeated anywhere: only what reads
/// like a field's name, and that only once many documents have it (`status::stream`).
fn is_a_name(key: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    (1..=64).contains(&key.len())
        && key.first().is_some_and(letter)
        && key.iter().all(|byte| letter(byte) || byte.is_ascii_digit())
        && key.iter().filter(|byte| byte.is_ascii_digit()).count() <= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absences_are_counted_in_a_row_over_batches_and_keys_that_are_data_are_not_kept() {
        let mut drift = Drift::default();
        for there in [true, false, false] {
            drift.begin(1);
            drift.present(0, there);
        }
        let mut later = Drift::default();
        later.begin(1);
        later.present(0, false);
        drift.add(later.clone());
        assert_eq!(drift.presence, [Presence { seen: true, absent: 3 }]);
        later.begin(1);
        later.present(0, true);
        drift.add(later);
        assert_eq!((drift.documents, drift.presence[0].absent), (6, 0));
        later = Drift::default();
        later.begin(0);
        for number in 0..2 * NAMES_MAX {
            later.unmapped(format!("user{number}").as_bytes());
        }
        assert_eq!((later.unmapped.len(), later.crowded), (NAMES_MAX, 1));
        for key in ["_class", "newField", "_class", "1234567", "Mary Smith", "a.b", "ref12345"] {
            drift.unmapped(key.as_bytes());
        }
        assert_eq!(drift.unmapped, [("_class".into(), 2), ("newField".into(), 1)]);
    }
}
