//! The values that break followers, each with what it must become; and what must hold for all
//! values.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{
    Binary, Bson, DateTime, DbPointer, Decimal128, Document, JavaScriptCodeWithScope, Regex,
    Timestamp, doc,
};
use proptest::prelude::*;

use super::*;
use crate::model::bson::{Builder, Doc, Value, kind};

fn json(value: impl Into<Bson>) -> String {
    let bytes = doc! { "v": value.into() }.to_vec().unwrap();
    let mut out = Vec::new();
    let value = Doc::new(&bytes).unwrap().get("v").unwrap().unwrap();
    encode_value(value, Bound::NONE, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Both ways a document is written: by the layout of its keys, and as a value.
fn encode_document(doc: Doc<'_>, out: &mut Vec<u8>) -> Result<Encoded, Unwritable> {
    let fields: Vec<_> = doc.elements().collect::<Result<_, _>>()?;
    let by_layout =
        Layout::new(fields.iter().map(|(key, _)| *key)).encode(&fields, Bound::NONE, out);
    let mut alone = Vec::new();
    let value = Value { kind: kind::DOCUMENT, bytes: doc.bytes() };
    let as_value = encode_value(value, Bound::NONE, &mut alone);
    assert_eq!(by_layout, as_value);
    assert!(by_layout.is_err() || *out == alone, "{out:?} {alone:?}");
    by_layout
}

fn id(value: impl Into<Bson>) -> String {
    let bytes = doc! { "_id": value.into() }.to_vec().unwrap();
    raw_id(Doc::new(&bytes).unwrap().get("_id").unwrap().unwrap())
}

fn raw_id(value: Value<'_>) -> String {
    let mut out = Vec::new();
    encode_id(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(text.parse::<Decimal128>().unwrap())
}

#[test]
fn every_type_is_written_as_the_contract_says() {
    let oid = ObjectId::parse_str("5f1a2b3c4d5e6f7081920a0b").unwrap();
    let regex = Regex { pattern: "^a\"b".try_into().unwrap(), options: "im".try_into().unwrap() };
    let scope = JavaScriptCodeWithScope { code: "f()".into(), scope: doc! { "x": 1 } };
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    let cases: [(Bson, &str); 28] = [
        (oid.into(), "\"5f1a2b3c4d5e6f7081920a0b\""),
        (DateTime::from_millis(1_795_342_490_634).into(), "\"2026-11-22T10:14:50.634Z\""),
        (
            DateTime::from_millis(-62_167_219_200_000).into(),
            r#"{"$date":{"$numberLong":"-62167219200000"}}"#,
        ),
        (
            DateTime::from_millis(253_402_300_800_000).into(),
            r#"{"$date":{"$numberLong":"253402300800000"}}"#,
        ),
        (
            DateTime::from_millis(i64::MAX).into(),
            r#"{"$date":{"$numberLong":"9223372036854775807"}}"#,
        ),
        (
            DateTime::from_millis(i64::MIN).into(),
            r#"{"$date":{"$numberLong":"-9223372036854775808"}}"#,
        ),
        (i32::MIN.into(), "-2147483648"),
        (9_007_199_254_740_993_i64.into(), "9007199254740993"),
        (1.0.into(), "1.0"),
        ((-0.0).into(), "-0.0"),
        (f64::NAN.into(), "\"NaN\""),
        (f64::INFINITY.into(), "\"Infinity\""),
        (f64::NEG_INFINITY.into(), "\"-Infinity\""),
        (decimal("1234567890123456789012345678901234"), "1234567890123456789012345678901234"),
        (decimal("0.1"), "0.1"),
        (decimal("NaN"), "\"NaN\""),
        (decimal("-Infinity"), "\"-Infinity\""),
        (binary(BinarySubtype::Generic, b"\x00\xff"), "\"AP8=\""),
        (binary(BinarySubtype::Uuid, &[7; 16]), "\"BwcHBwcHBwcHBwcHBwcHBw==\""),
        (Bson::Null, "null"),
        (Bson::Undefined, r#"{"$undefined":true}"#),
        (Bson::MinKey, r#"{"$minKey":1}"#),
        (Bson::MaxKey, r#"{"$maxKey":1}"#),
        (Bson::Symbol("s".into()), r#"{"$symbol":"s"}"#),
        (
            Bson::RegularExpression(regex),
            r#"{"$regularExpression":{"pattern":"^a\"b","options":"im"}}"#,
        ),
        (
            Bson::Timestamp(Timestamp { time: 4_000_000_000, increment: 2 }),
            r#"{"$timestamp":{"t":4000000000,"i":2}}"#,
        ),
        (Bson::JavaScriptCode("f()".into()), r#"{"$code":"f()"}"#),
        (
            Bson::JavaScriptCodeWithScope(scope),
            r#"{"$code":"f()","$scope":{"x":{"$numberInt":"1"}}}"#,
        ),
    ];
    for (value, expected) in cases {
        assert_eq!(json(value.clone()), expected, "{value:?}");
    }
    let pointer: DbPointer = serde_json::from_value(serde_json::json!({
        "$dbPointer": { "$ref": "db.c", "$id": { "$oid": "5f1a2b3c4d5e6f7081920a0b" } },
    }))
    .unwrap();
    assert_eq!(
        json(Bson::DbPointer(pointer)),
        r#"{"$dbPointer":{"$ref":"db.c","$id":{"$oid":"5f1a2b3c4d5e6f7081920a0b"}}}"#
    );
}

#[test]
fn decimals_of_any_exponent_are_json_numbers() {
    for text in
        ["1E+6000", "9.999999999999999999999999999999999E+6144", "1E-6176", "-1.50", "0E+3", "1E+3"]
    {
        let written = json(decimal(text));
        assert!(
            serde_json::from_str::<&serde_json::value::RawValue>(&written).is_ok()
                || written.parse::<f64>().is_ok(),
            "{written}"
        );
        let mut numeric = Vec::new();
        assert!(encode_numeric(&written, &mut numeric), "{written}");
    }
}

#[test]
fn strings_keep_everything_but_what_postgres_cannot_store() {
    assert_eq!(json("a\"\\\n\t\u{1}é🦀"), "\"a\\\"\\\\\\n\\t\\u0001é🦀\"");
    let bytes = doc! { "k": "a\0b\0" }.to_vec().unwrap();
    let mut out = Vec::new();
    let encoded = encode_document(Doc::new(&bytes).unwrap(), &mut out).unwrap();
    assert_eq!(
        (String::from_utf8(out).unwrap().as_str(), encoded.replaced),
        ("{\"k\":\"a\u{fffd}b\u{fffd}\"}", 2)
    );
    let invalid = Builder::default()
        .value("k", Value { kind: kind::STRING, bytes: b"\x03\0\0\0a\xff\0" })
        .finish();
    let mut out = Vec::new();
    let encoded = encode_document(Doc::new(&invalid).unwrap(), &mut out).unwrap();
    assert_eq!(
        (String::from_utf8(out).unwrap().as_str(), encoded.replaced),
        ("{\"k\":\"a\u{fffd}\"}", 1)
    );
}

#[test]
fn keys_of_every_kind_and_a_hundred_levels_are_written() {
    let odd = Builder::default()
        .i32("", 1)
        .i32("a.b", 2)
        .i32("$x", 3)
        .i32("same", 4)
        .i32("same", 5)
        .finish();
    let mut out = Vec::new();
    encode_document(Doc::new(&odd).unwrap(), &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), r#"{"":1,"$x":3,"a.b":2,"same":4,"same":5}"#);
    let deep = |levels| (0..levels).fold(doc! { "n": 1 }, |inner: Document, _| doc! { "d": inner });
    let mut out = Vec::new();
    assert!(encode_document(Doc::new(&deep(100).to_vec().unwrap()).unwrap(), &mut out).is_ok());
    assert!(encode_document(Doc::new(&deep(250).to_vec().unwrap()).unwrap(), &mut out).is_err());
}

#[test]
fn ids_read_as_the_contract_says_and_look_alikes_are_told_apart() {
    let oid = ObjectId::parse_str("5f1a2b3c4d5e6f7081920a0b").unwrap();
    assert_eq!(id("1000001"), "1000001");
    assert_eq!(id(oid), "5f1a2b3c4d5e6f7081920a0b");
    assert_eq!(id("5f1a2b3c4d5e6f7081920a0b"), "\"5f1a2b3c4d5e6f7081920a0b\"");
    assert_eq!(id("5F1A2B3C4D5E6F7081920A0B"), "5F1A2B3C4D5E6F7081920A0B");
    assert_eq!(id("{x"), "\"{x\"");
    assert_eq!(id("\"x"), "\"\\\"x\"");
    assert_eq!(id(1), r#"{"$numberInt":"1"}"#);
    assert_eq!(id(1_i64), r#"{"$numberLong":"1"}"#);
    assert_eq!(id(1.0), r#"{"$numberDouble":"1.0"}"#);
    assert_eq!(id("1"), "1");
    assert_eq!(id(true), "true");
    assert_eq!(id("true"), "\"true\"");
    assert_eq!(id(Bson::Null), "null");
    assert_eq!(id("null"), "\"null\"");
    assert_eq!(id("a\0"), "\"a\\u0000\"");
    assert_eq!(id(doc! { "a": 1, "b": "x" }), r#"{"a":{"$numberInt":"1"},"b":"x"}"#);
    assert_ne!(id(doc! { "a": oid }), id(doc! { "a": { "$oid": oid.to_hex() } }));
    let array = doc! { "_id": [1] }.to_vec().unwrap();
    let value = Doc::new(&array).unwrap().get("_id").unwrap().unwrap();
    assert_eq!(encode_id(value, &mut Vec::new()), Err(NoId::Array));
}

#[test]
fn a_value_fits_its_column_or_is_drift() {
    let fit = |value: Bson, column| {
        let bytes = doc! { "v": value }.to_vec().unwrap();
        let mut out = Vec::new();
        let value = Doc::new(&bytes).unwrap().get("v").unwrap();
        let fit = encode_column(value, column, Bound::NONE, &mut out);
        assert_eq!(
            fit == Fit::Value,
            !out.is_empty() || column == ColumnType::Text && fit == Fit::Value
        );
        (fit, out)
    };
    let value = |bson: Bson, column| {
        let (fit, out) = fit(bson, column);
        assert_eq!(fit, Fit::Value);
        out
    };
    assert_eq!(value("x".into(), ColumnType::Text), b"x");
    assert_eq!(value(7.into(), ColumnType::Text), b"7");
    assert_eq!(value(7.0.into(), ColumnType::Integer), 7_i32.to_be_bytes());
    assert_eq!(value(7.into(), ColumnType::Bigint), 7_i64.to_be_bytes());
    assert_eq!(
        value(DateTime::from_millis(946_684_800_000).into(), ColumnType::Date),
        0_i32.to_be_bytes()
    );
    assert_eq!(
        value(DateTime::from_millis(946_684_800_001).into(), ColumnType::Timestamptz),
        1_000_i64.to_be_bytes()
    );
    assert_eq!(value(true.into(), ColumnType::Boolean), [1]);
    assert_eq!(value(doc! { "a": 1 }.into(), ColumnType::Jsonb), b"\x01{\"a\":1}");
    for (bson, column) in [
        (Bson::from("x"), ColumnType::Integer),
        (i64::MAX.into(), ColumnType::Integer),
        (1.5.into(), ColumnType::Bigint),
        (f64::NAN.into(), ColumnType::Bigint),
        (9_007_199_254_740_993_i64.into(), ColumnType::Double),
        ("2020-01-01".into(), ColumnType::Date),
        (DateTime::from_millis(i64::MAX).into(), ColumnType::Date),
        (DateTime::from_millis(i64::MIN).into(), ColumnType::Timestamptz),
        ("yes".into(), ColumnType::Boolean),
        (doc! {}.into(), ColumnType::Text),
        ("x".into(), ColumnType::TextArray),
        (Bson::Array(vec![doc! {}.into()]), ColumnType::TextArray),
        ("1".into(), ColumnType::Numeric),
    ] {
        assert_eq!(fit(bson.clone(), column).0, Fit::Drift, "{bson:?} in {column:?}");
    }
    assert_eq!(fit(Bson::Null, ColumnType::Text).0, Fit::Null);
    assert_eq!(encode_column(None, ColumnType::Date, Bound::NONE, &mut Vec::new()), Fit::Null);
}

/// Any `_id` a server could hold; strings lean towards what could be mistaken for something else.
fn any_id() -> impl Strategy<Value = Bson> {
    let text = prop_oneof![
        "[0-9a-f]{24}",
        "[{\"\\[].{0,12}",
        "(true|false|null|NaN|1|1\\.0)",
        r#"\{"\$(oid|numberInt|numberLong|document|invalidUtf8)":"[0-9a-f]{1,3}"\}"#,
        ".{0,6}",
        "\"[0-9a-f]{24}\"",
        "a\0?b?",
    ];
    let leaf = prop_oneof![
        text.prop_map(Bson::String),
        any::<[u8; 12]>().prop_map(|bytes| ObjectId::from_bytes(bytes).into()),
        (-3_i32..3).prop_map(Bson::Int32),
        (-3_i64..3).prop_map(Bson::Int64),
        (-3_i32..3).prop_map(|n| Bson::Double(f64::from(n))),
        any::<i64>().prop_map(|n| Bson::DateTime(DateTime::from_millis(n))),
        any::<bool>().prop_map(Bson::Boolean),
        Just(Bson::Null),
        Just(Bson::MinKey),
        Just(Bson::MaxKey),
        "[a-c]{0,2}".prop_map(Bson::Symbol),
        "[a-c]{0,2}".prop_map(Bson::JavaScriptCode),
        (0_u32..3, 0_u32..3)
            .prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment })),
        (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..4))
            .prop_filter("subtype 2 repeats its length", |(subtype, _)| *subtype != 2)
            .prop_map(|(subtype, bytes)| Bson::Binary(Binary { subtype: subtype.into(), bytes })),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let key = "(a|b|\\$oid|\\$numberInt|\\$document|\\$date|)";
        prop_oneof![
            proptest::collection::vec((key, inner.clone()), 0..3)
                .prop_map(|pairs| Bson::Document(pairs.into_iter().collect())),
            proptest::collection::vec(inner, 0..3)
                .prop_map(|items| Bson::Document(doc! { "list": items })),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn distinct_ids_never_share_a_text(a in any_id(), b in any_id()) {
        prop_assert_eq!(a == b, id(a.clone()) == id(b.clone()), "{:?} and {:?}", a, b);
    }

    #[test]
    fn an_id_that_can_be_decoded_is_decoded_to_what_it_was_written_for(of in any_id()) {
        let decoded = decode_id(&id(of.clone()))
            .map(|bytes| Document::from_reader(bytes.as_slice()).unwrap());
        let is_plain = matches!(&of, Bson::String(text) if id(of.clone()) == *text);
        let number =
            matches!(&of, Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) | Bson::Decimal128(_));
        let is_decoded = decoded.is_some();
        let readable = is_plain || number || matches!(of, Bson::ObjectId(_));
        prop_assert!(is_decoded || !readable, "{:?}", of);
        let is_the_same = decoded.is_none_or(|decoded| decoded == doc! { "": of });
        prop_assert!(is_the_same);
    }

    #[test]
    fn any_document_becomes_valid_json_without_u0000(value in any_id()) {
        let text = json(value);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        prop_assert!(!text.contains("\\u0000") && !text.contains('\0'));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut framed = bytes;
        let length = u32::try_from(framed.len() + 5).unwrap().to_le_bytes();
        framed.splice(0..0, length);
        framed.push(0);
        let doc = Doc::new(&framed).unwrap();
        let mut out = Vec::new();
        let _ = encode_document(doc, &mut out);
        for (_, value) in doc.elements().map_while(Result::ok) {
            let _ = encode_id(value, &mut out);
            for (_, column) in ColumnType::NAMES {
                encode_column(Some(value), column, Bound::NONE, &mut out);
            }
        }
    }
}

#[test]
fn of_equal_keys_the_last_counts_at_every_depth_as_in_jsonb() {
    let int = |number: &'static [u8; 4]| Value { kind: kind::INT32, bytes: number };
    let twice = || Builder::default().value("b", int(&[1, 0, 0, 0])).value("b", int(&[2, 0, 0, 0]));
    let document =
        Builder::default().document("a", Builder::default()).document("a", twice()).finish();
    let doc = Doc::new(&document).unwrap();
    let path = ["a".into(), "b".into()];
    assert_eq!(find(doc, &path).and_then(|value| value.as_i32()), Some(2));
    let mut json = Vec::new();
    encode_document(doc, &mut json).unwrap();
    assert_eq!(json, br#"{"a":{},"a":{"b":1,"b":2}}"#);
}

/// Binary subtype 2 repeats its length inside. A server takes one that does not, too.
#[test]
fn an_old_binary_without_its_inner_length_is_another_id_than_one_with_it() {
    let with = Value { kind: kind::BINARY, bytes: &[5, 0, 0, 0, 2, 1, 0, 0, 0, 7] };
    let without = Value { kind: kind::BINARY, bytes: &[1, 0, 0, 0, 2, 7] };
    assert_eq!(raw_id(with), r#"{"$binary":{"base64":"Bw==","subType":"02"}}"#);
    assert_ne!(raw_id(with), raw_id(without));
    let back = decode_id(&raw_id(with)).unwrap();
    assert_eq!(Doc::new(&back).unwrap().get("").unwrap(), Some(with));
    assert_eq!(
        decode_id(&raw_id(without)),
        None,
        "it cannot be asked for, and is not taken for another"
    );
}

/// What stands in the scope of code is written as canonical Extended JSON, and has to be stored all
/// the same.
#[test]
fn what_postgres_cannot_store_is_replaced_in_the_scope_of_code_too() {
    let text = |bytes: &'static [u8]| Value { kind: kind::STRING, bytes };
    let mut scope = Builder::default().value("nul", text(b"\x02\0\0\0\0\0"));
    scope = scope.value("broken", text(b"\x02\0\0\0\xff\0"));
    let mut scope = scope.value("key", Value { kind: kind::INT32, bytes: &[1, 0, 0, 0] }).finish();
    let at = scope.windows(3).position(|part| part == b"key").unwrap();
    scope[at] = 0xff;
    let mut code = (u32::try_from(scope.len()).unwrap() + 10).to_le_bytes().to_vec();
    code.extend(b"\x02\0\0\0f\0");
    code.extend(&scope);
    let document =
        Builder::default().value("a", Value { kind: kind::CODE_WITH_SCOPE, bytes: &code }).finish();
    let mut json = Vec::new();
    let encoded = encode_document(Doc::new(&document).unwrap(), &mut json).unwrap();
    let scope =
        "{\"nul\":\"\u{fffd}\",\"broken\":\"\u{fffd}\",\"\u{fffd}ey\":{\"$numberInt\":\"1\"}}";
    let expected = format!("{{\"a\":{{\"$code\":\"f\",\"$scope\":{scope}}}}}");
    assert_eq!(String::from_utf8(json).unwrap(), expected);
    assert_eq!(encoded.replaced, 3);
}
