//! A mapping in short: what is remembered of it with the rows it makes. Digests are stored, so that
//! what they are made of, and its order, stay as they are: what is added to a column's settings is
//! left out where it is not set.

use twox_hash::XxHash3_64;

use crate::model::mapping_digest::MappingDigest;
use crate::settings::{Child, Column, StreamSettings};

/// The digest of a stream's mapping.
pub(super) fn digest(stream: &StreamSettings) -> MappingDigest {
    let of_columns = |columns: &[Column]| {
        columns.iter().map(|column| (column.name.clone(), of_column(column))).collect()
    };
    let mut selection = Vec::new();
    if let Some(filter) = &stream.filter {
        part(&mut selection, "filter", filter.bytes());
    }
    if !stream.redaction.fingerprint().is_empty() {
        part(&mut selection, "redaction", stream.redaction.fingerprint());
    }
    if !stream.keeping.doc {
        part(&mut selection, "doc", b"false");
    }
    let selection = if selection.is_empty() { String::new() } else { hashed(&selection) };
    let children = stream.children.iter().map(|child| (child.table.clone(), of_child(child)));
    let child_columns =
        stream.children.iter().map(|child| (child.table.clone(), of_columns(&child.columns)));
    MappingDigest {
        columns: of_columns(&stream.columns),
        children: children.collect(),
        child_columns: child_columns.collect(),
        selection,
        versions: stream.keeping.history,
    }
}

/// Of what makes a column's value.
fn of_column(column: &Column) -> String {
    let mut text = Vec::new();
    part(&mut text, "type", column.kind.sql().as_bytes());
    for path in &column.paths {
        part(&mut text, "path", path.join(".").as_bytes());
    }
    if let Some(zone) = &column.zone {
        part(&mut text, "zone", zone.name().as_bytes());
    }
    hashed(&text)
}

/// Of what makes a table's rows.
fn of_child(child: &Child) -> String {
    let mut text = Vec::new();
    part(&mut text, "path", child.path.join(".").as_bytes());
    for column in &child.columns {
        part(&mut text, "column", column.name.as_bytes());
        part(&mut text, "of", of_column(column).as_bytes());
    }
    hashed(&text)
}

/// Lengths keep two parts from being taken for one.
fn part(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    for piece in [name.as_bytes(), value] {
        text.extend_from_slice(&crate::model::count(piece.len()).to_be_bytes());
        text.extend_from_slice(piece);
    }
}

fn hashed(text: &[u8]) -> String {
    format!("{:016x}", XxHash3_64::oneshot(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter::Filter;
    use crate::model::redaction::{Hidden, Redaction, parse_path};
    use crate::model::value::{ColumnType, Zone};
    use crate::settings::Keeping;

    fn column(name: &str, kind: ColumnType, paths: &[&str]) -> Column {
        let paths = paths.iter().map(|path| path.split('.').map(Into::into).collect()).collect();
        Column { name: name.to_owned(), paths, kind, required: false, mask: None, zone: None }
    }

    #[test]
    fn a_filter_is_another_if_it_says_something_else_however_it_is_laid_out() {
        let of = |text: &str| {
            let filter = Filter::parse(text).unwrap();
            digest(&StreamSettings { filter, ..StreamSettings::of_columns(vec![]) }).selection
        };
        assert_eq!(digest(&StreamSettings::of_columns(vec![])).selection, "");
        assert_eq!(of("{}"), "");
        assert_eq!(of(r#"{"a": {"$in": [1]}}"#), of(r#" {"a":{"$in":[1]}} "#));
        assert_ne!(of(r#"{"a": 1}"#), of(r#"{"a": 2}"#));
    }

    #[test]
    fn other_fields_hidden_or_the_document_left_out_are_another_selection() {
        let hides = |path: &str| {
            let hidden = Hidden { exclude: vec![parse_path(path).unwrap()], ..Hidden::default() };
            let redaction = Redaction::new(&hidden, None);
            digest(&StreamSettings { redaction, ..StreamSettings::of_columns(vec![]) }).selection
        };
        assert_eq!(hides("a.b"), hides("a.b"));
        assert_ne!(hides("a.b"), hides("a.c"));
        let keeping = Keeping { doc: false, ..Keeping::default() };
        let alone =
            digest(&StreamSettings { keeping, ..StreamSettings::of_columns(vec![]) }).selection;
        assert!(!alone.is_empty() && alone != hides("a.b"));
    }

    #[test]
    fn a_column_is_another_if_its_type_its_field_or_the_order_of_its_aliases_is() {
        let of = |column: Column| digest(&StreamSettings::of_columns(vec![column]));
        let plain = of(column("a", ColumnType::Text, &["b.c", "d"]));
        // Stored by releases to come.
        assert_eq!(plain.columns["a"], "7f6797b17435b3f1");
        let same = column("z", ColumnType::Text, &["b.c", "d"]);
        let required = Column { required: true, ..same };
        assert_eq!(of(required).columns["z"], plain.columns["a"]);
        let in_zone = Column {
            zone: Zone::parse("Europe/London"),
            ..column("a", ColumnType::Text, &["b.c", "d"])
        };
        for other in [
            column("a", ColumnType::Jsonb, &["b.c", "d"]),
            column("a", ColumnType::Text, &["d", "b.c"]),
            column("a", ColumnType::Text, &["b", "c", "d"]),
            column("a", ColumnType::Text, &["b.c"]),
            in_zone,
        ] {
            assert_ne!(of(other), plain);
        }
    }
}
