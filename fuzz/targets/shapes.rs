//! A row made by way of remembered shapes is what a slow reading of the document makes.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tidemark::apply::{Drift, Mapping, Rows};
use tidemark::model::bson::{Doc, Value, kind};
use tidemark::model::position::ClusterTime;
use tidemark::model::value::{Bound, ColumnType, Fit, encode_column, encode_value};
use tidemark::settings::{Column, Settings, StreamSettings};
use tidemark_fuzz::{Bytes, made};

const PATHS: [&[&str]; 6] = [&["a"], &["b"], &["a", "b"], &["c", "a", "b"], &["bb"], &["_id"]];

/// Larger than what is tried here.
static DEFAULTS: LazyLock<Settings> = LazyLock::new(|| {
    Settings::load(&Default::default()).expect(
        "the defaults are a \
                                                                 configuration",
    )
});

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes::new(data);
    let columns: Vec<Column> =
        (0..bytes.byte() % 6).map(|index| column(index, &mut bytes)).collect();
    let stream = StreamSettings { columns: columns.clone(), ..DEFAULTS.streams[0].clone() };
    let mapping = Mapping::new(&stream, DEFAULTS.row);
    let (mut rows, mut drift) = (Rows::default(), Drift::default());
    // One buffer for several documents: a shape met before is used again.
    for origin in 0..4 {
        let document = made(&mut bytes, 0);
        let doc = Doc::new(&document).expect("its lengths are right");
        let before = rows.len();
        let done = mapping.encode("id", doc, ClusterTime::new(7), origin, &mut rows, &mut drift);
        match slowly(&columns, doc) {
            Some(fields) if done.is_ok() => {
                let tuple = rows.tuple(before).expect("one more row");
                let hash = mapping.hash(doc.bytes()).to_be_bytes();
                assert_eq!(tuple, tuple_of(fields, hash), "{columns:?}");
            }
            slow => {
                assert!(slow.is_none() && done.is_err(), "one of the two refuses it");
                assert_eq!(rows.len(), before, "what is refused leaves nothing behind");
            }
        }
    }
});

fn column(index: u8, bytes: &mut Bytes<'_>) -> Column {
    let kinds = ColumnType::NAMES;
    let path =
        |byte: u8| PATHS[usize::from(byte) % PATHS.len()].iter().map(|&part| part.into()).collect();
    let paths = (0..=bytes.byte() % 2).map(|_| path(bytes.byte())).collect();
    let kind = kinds[usize::from(bytes.byte()) % kinds.len()].1;
    let required = bytes.byte() % 2 == 0;
    Column { name: format!("c{index}"), kind, required, paths, mask: None, zone: None }
}

/// The fields after the id: `None` where a value is NULL; no document if it is not BSON.
fn slowly(columns: &[Column], doc: Doc<'_>) -> Option<Vec<Option<Vec<u8>>>> {
    let mut whole = vec![1];
    encode_value(Value { kind: kind::DOCUMENT, bytes: doc.bytes() }, Bound::NONE, &mut whole)
        .ok()?;
    let field = |column: &Column| {
        let value = column.paths.iter().find_map(|path| at(doc, path));
        let mut out = Vec::new();
        (encode_column(value, column.kind, Bound::NONE, &mut out) == Fit::Value).then_some(out)
    };
    Some(columns.iter().map(field).chain([Some(whole)]).collect())
}

/// The last of equal keys counts at the top, as in `jsonb`.
fn at<'a>(doc: Doc<'a>, path: &[Box<str>]) -> Option<Value<'a>> {
    let (head, rest) = path.split_first()?;
    let found = doc.elements().flatten().filter(|(key, _)| *key == head.as_bytes()).last()?.1;
    if rest.is_empty() {
        return Some(found);
    }
    at(found.as_document().filter(|_| found.kind == kind::DOCUMENT)?, rest)
}

fn tuple_of(fields: Vec<Option<Vec<u8>>>, hash: [u8; 8]) -> Vec<u8> {
    let count = u16::try_from(fields.len() + 3).expect("few columns").to_be_bytes();
    let time = 7_i64.to_be_bytes();
    let all = [Some(b"id".to_vec())]
        .into_iter()
        .chain(fields)
        .chain([Some(hash.to_vec()), Some(time.to_vec())]);
    let mut tuple = count.to_vec();
    for field in all {
        match field {
            Some(bytes) => {
                tuple.extend(i32::try_from(bytes.len()).expect("small").to_be_bytes());
                tuple.extend(bytes);
            }
            None => tuple.extend((-1_i32).to_be_bytes()),
        }
    }
    tuple
}
