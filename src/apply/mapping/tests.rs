use bson::{Document, doc};

use super::*;
use crate::model::redaction::{Hidden, parse_path};

const LIMITS: RowLimits = RowLimits { fields_max: 100, bytes_max: 1 << 20 };

fn mapping(exclude: &[&str], zone: Option<&str>) -> Mapping {
    let exclude = exclude.iter().map(|path| parse_path(path).unwrap()).collect();
    let hidden = Hidden { exclude, ..Hidden::default() };
    let column = Column {
        name: "day".to_owned(),
        paths: vec![parse_path("day").unwrap()],
        kind: ColumnType::Date,
        required: false,
        mask: None,
        zone: zone.and_then(Zone::parse),
    };
    let redaction = Redaction::new(&hidden, None);
    let stream = StreamSettings { redaction, ..StreamSettings::of_columns(vec![column]) };
    Mapping::new(&stream, LIMITS)
}

fn row(mapping: &Mapping, document: &Document) -> (Vec<u8>, Drift, i64) {
    let bytes = document.to_vec().unwrap();
    let (mut rows, mut drift) = (Rows::default(), Drift::default());
    let document = Doc::new(&bytes).unwrap();
    mapping.encode("1", document, ClusterTime::new(7), 0, &mut rows, &mut drift).unwrap();
    (rows.tuple(0).unwrap().to_vec(), drift, mapping.hash(&bytes))
}

#[test]
fn documents_that_differ_in_what_is_hidden_alone_are_one_to_row_hash_and_drift() {
    let hides = mapping(&["a", "b.c"], None);
    let one = row(&hides, &doc! { "_id": 1, "a": 1, "b": { "c": 1, "d": 1 } });
    let other = row(&hides, &doc! { "_id": 1, "a": [2], "b": { "d": 1 } });
    assert_eq!(one, other);
    assert_eq!(one.1.unmapped.len(), 1, "not even its name is told");
    assert_eq!(one.2.to_be_bytes(), one.0[one.0.len() - 20..][..8], "the hash in the row");
    assert_eq!(hides.hash(b"no document"), hides.hash(b""), "of what has no row");
}

#[test]
fn a_hash_is_of_how_documents_become_rows() {
    let bytes = doc! { "_id": 1, "d": 1 }.to_vec().unwrap();
    let mappings = [
        mapping(&[], None),
        mapping(&["a"], None),
        mapping(&["b"], None),
        mapping(&[], Some("Europe/London")),
        mapping(&[], Some("Europe/Paris")),
    ];
    let mut hashes: Vec<i64> = mappings.iter().map(|mapping| mapping.hash(&bytes)).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), mappings.len());
}
