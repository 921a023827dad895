//! Any document becomes JSON that parses and says what the `bson` crate reads; anything else is
//! refused.
#![no_main]

use bson::{Bson, Document};
use libfuzzer_sys::fuzz_target;
use serde_json::Value as Json;
use tidemark::model::bson::{Doc, Value, kind};
use tidemark::model::value::{Bound, encode_value};

fuzz_target!(|data: &[u8]| {
    let document = tidemark_fuzz::document(data);
    let Ok(doc) = Doc::new(&document) else { return };
    let mut text = Vec::new();
    let encoded =
        encode_value(Value { kind: kind::DOCUMENT, bytes: doc.bytes() }, Bound::NONE, &mut text);
    let Ok(encoded) = encoded else { return };
    let text = std::str::from_utf8(&text).expect("what Postgres is sent is UTF-8");
    assert!(!text.contains("\\u0000") || text.contains("\\\\u0000"), "Postgres takes no U+0000");
    let mut parser = serde_json::Deserializer::from_str(text);
    parser.disable_recursion_limit();
    let ours: Json = serde::Deserialize::deserialize(&mut parser).expect("JSON");
    parser.end().expect("one value and nothing after it");
    let Ok(theirs) = Document::from_reader(document.as_slice()) else { return };
    let theirs = Bson::Document(theirs);
    if !is_rare(&theirs) && encoded.replaced == 0 {
        let theirs = devstack::plain_json(&theirs);
        assert!(is_same(&ours, &theirs), "ours {ours}\ntheirs {theirs}");
    }
});

/// Types whose text is Extended JSON's: the two say the same in more than one way.
fn is_rare(value: &Bson) -> bool {
    match value {
        Bson::Document(document) => document.values().any(is_rare),
        Bson::Array(items) => items.iter().any(is_rare),
        Bson::RegularExpression(_)
        | Bson::JavaScriptCode(_)
        | Bson::JavaScriptCodeWithScope(_)
        | Bson::Symbol(_)
        | Bson::DbPointer(_)
        | Bson::Timestamp(_)
        | Bson::Binary(_)
        | Bson::Decimal128(_) => true,
        _ => false,
    }
}

fn is_same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(a), Json::Number(b)) => {
            a == b || a.as_f64().is_some() && a.as_f64() == b.as_f64()
        }
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        _ => left == right,
    }
}
