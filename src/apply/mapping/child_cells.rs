//! From a document's arrays to the rows of their tables: one field of the document's row holds the
//! cells of all elements.

use std::collections::BTreeSet;

use super::{JSONB_VERSION, Mapping, Sampled};
use crate::apply::drift::{Drift, unfit};
use crate::apply::rows::RowEncoder;
use crate::model::bson::{Doc, Value, kind};
use crate::model::drift_kind::DriftKind;
use crate::model::value::{Bound, Fit, Unwritable, encode_cell, find};
use crate::settings::{Child, Column};

/// What one document's array showed.
#[derive(Debug, Default)]
struct Seen {
    /// By column: whether an element had its field; `None` if there is no element.
    presence: Vec<Option<bool>>,
    /// By column, and what did not fit. The array itself is the first, its columns follow.
    noticed: BTreeSet<(usize, DriftKind)>,
}

impl Mapping {
    /// Appends a field for each array that is kept in a table of its own.
    pub(super) fn encode_children(
        &self,
        document: Doc<'_>,
        row: &mut RowEncoder<'_>,
        bound: Bound,
        drift: &mut Drift,
    ) -> Result<(), Unwritable> {
        let mut place = self.columns.len();
        for child in &self.children {
            let array = find(document, &child.path);
            let mut seen = Seen::default();
            row.field(|out| {
                out.push(JSONB_VERSION);
                let encoded = encode_elements(child, array, bound, out, &mut seen);
                (encoded.is_ok(), encoded)
            })?;
            drift.present(place, array.is_some());
            for (index, there) in seen.presence.iter().enumerate() {
                if let Some(there) = there {
                    drift.present(place + 1 + index, *there);
                }
            }
            for (index, kind) in seen.noticed {
                *drift.fields.entry((place + index, kind)).or_default() += 1;
            }
            place += 1 + child.columns.len();
        }
        Ok(())
    }

    /// Counts, for each array and its columns, in `found`.
    pub(super) fn survey_children(
        &self,
        document: Doc<'_>,
        found: &mut [Sampled],
    ) -> Result<(), Unwritable> {
        let mut found = found.iter_mut();
        for child in &self.children {
            let array = find(document, &child.path).filter(|array| !is_null(*array));
            if let Some(sampled) = found.next() {
                let is_array = array.is_some_and(|array| array.kind == kind::ARRAY);
                sampled.present += u64::from(array.is_some());
                sampled.unfit += u64::from(array.is_some() && !is_array);
            }
            for (column, sampled) in child.columns.iter().zip(&mut found) {
                for element in elements(array) {
                    let element = element?;
                    let document = element.as_document().filter(|_| element.kind == kind::DOCUMENT);
                    let value = document.and_then(|document| first_of(document, column));
                    sampled.add(Sampled::of(value, column, self.bound(0)));
                }
            }
        }
        Ok(())
    }
}

/// Every element is a row, so that places are those of the array: one that is no document is a row
/// without values.
fn encode_elements(
    child: &Child,
    array: Option<Value<'_>>,
    bound: Bound,
    out: &mut Vec<u8>,
    seen: &mut Seen,
) -> Result<(), Unwritable> {
    seen.presence.resize(child.columns.len(), None);
    out.push(b'[');
    if array.is_some_and(|array| array.kind != kind::ARRAY && !is_null(array)) {
        seen.noticed.insert((0, DriftKind::Type));
    }
    let start = out.len();
    let mut binary = Vec::new();
    for element in elements(array) {
        let element = element?;
        if out.len() > start {
            out.push(b',');
        }
        let document = element.as_document().filter(|_| element.kind == kind::DOCUMENT);
        if document.is_none() && !is_null(element) {
            seen.noticed.insert((0, DriftKind::Type));
        }
        encode_element(child, document, (bound, &mut binary), out, seen)?;
    }
    out.push(b']');
    if out.len() > bound.end { Err(Unwritable::Bytes) } else { Ok(()) }
}

fn encode_element(
    child: &Child,
    document: Option<Doc<'_>>,
    (bound, binary): (Bound, &mut Vec<u8>),
    out: &mut Vec<u8>,
    seen: &mut Seen,
) -> Result<(), Unwritable> {
    out.push(b'[');
    for (index, column) in child.columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let value = document.and_then(|document| first_of(document, column));
        let fit = encode_cell(value, (column.kind, column.zone), bound, binary, out);
        let noticed = match fit {
            Fit::TooLarge => return Err(Unwritable::Bytes),
            Fit::Drift => value.map(|value| unfit(value, column.kind)),
            Fit::Null if column.required && value.is_none() => Some(DriftKind::Missing),
            Fit::Null | Fit::Value => None,
        };
        seen.noticed.extend(noticed.filter(|_| document.is_some()).map(|kind| (index + 1, kind)));
        if let (Some(presence), Some(_)) = (seen.presence.get_mut(index), document) {
            *presence = Some(presence.unwrap_or_default() || value.is_some());
        }
    }
    out.push(b']');
    Ok(())
}

fn elements(
    array: Option<Value<'_>>,
) -> impl Iterator<Item = Result<Value<'_>, crate::model::bson::Malformed>> {
    let array =
        array.filter(|array| array.kind == kind::ARRAY).and_then(|array| array.as_document());
    let elements = array.into_iter().flat_map(|array| array.elements());
    elements.map(|element| element.map(|(_, value)| value))
}

const fn is_null(value: Value<'_>) -> bool {
    matches!(value.kind, kind::NULL | kind::UNDEFINED)
}

/// The first of the column's paths that the element has.
fn first_of<'a>(element: Doc<'a>, column: &Column) -> Option<Value<'a>> {
    column.paths.iter().find_map(|path| find(element, path))
}
