use bson::{Bson, Document, doc};
use proptest::prelude::*;

use super::{Evidence, Hidden, Mask, MaskKey, Redaction, parse_path};
use crate::model::bson::Doc;
use crate::model::event::Event;
use crate::model::value::{Bound, Unwritable};

const KEY: &[u8] = b"a key of 16 bytes";

fn key() -> MaskKey {
    MaskKey::new(KEY).unwrap()
}

fn redaction(include: &[&str], exclude: &[&str], masks: &[(&str, Mask)]) -> Redaction {
    let paths = |list: &[&str]| list.iter().map(|path| parse_path(path).unwrap()).collect();
    let masks = masks.iter().map(|(path, mask)| (parse_path(path).unwrap(), *mask)).collect();
    let hidden = Hidden { include: paths(include), exclude: paths(exclude), masks };
    Redaction::new(&hidden, Some(&key()))
}

fn try_applied(redaction: &Redaction, document: &Document) -> Result<Document, Unwritable> {
    let bytes = document.to_vec().unwrap();
    let redacted = redaction.apply(Doc::new(&bytes).unwrap(), Bound::NONE)?;
    Ok(bson::deserialize_from_slice(&redacted).unwrap())
}

fn applied(redaction: &Redaction, document: &Document) -> Document {
    try_applied(redaction, document).unwrap()
}

fn hashed(text: &str) -> String {
    String::from_utf8(key().digits(text.as_bytes()).to_vec()).unwrap()
}

#[test]
fn what_is_excluded_is_gone_wherever_its_path_leads_and_the_rest_keeps_its_order() {
    let document = doc! {
        "_id": { "a": 1 }, "z": 1, "a": { "b": 1, "c": 2 }, "y": [{ "b": [{ "s": 1, "t": 2 }] }, 7],
        "x": [[{ "b": { "s": 1 } }]], "s": "kept", "a.c": "spelt", "e": { "b.s": 1 },
    };
    let redaction = redaction(&[], &["a.c", "y.b.s", "x.b.s", "e.b.s", "s.deeper", "none"], &[]);
    let expected = doc! {
        "_id": { "a": 1 }, "z": 1, "a": { "b": 1 }, "y": [{ "b": [{ "t": 2 }] }, 7],
        "x": [[{ "b": {} }]], "s": "kept", "e": {},
    };
    assert_eq!(applied(&redaction, &document).to_vec().unwrap(), expected.to_vec().unwrap());
    assert!(!redaction.is_none() && Redaction::default().is_none());
}

#[test]
fn what_is_included_is_all_there_is_beside_the_id() {
    let document = doc! {
        "b": 1, "_id": 7, "a": { "b": 1, "c": 2 }, "y": [{ "b": 1, "c": 2 }, 7, [{ "c": 3 }, 8]],
        "s": 1, "a.b": 2,
    };
    let include = redaction(&["a.b", "y.c", "s.inner"], &[], &[]);
    let expected = doc! { "_id": 7, "a": { "b": 1 }, "y": [{ "c": 2 }, [{ "c": 3 }]] };
    assert_eq!(applied(&include, &document).to_vec().unwrap(), expected.to_vec().unwrap());
    let both = redaction(&["a", "y"], &["a.b", "y.c"], &[]);
    let expected = doc! { "_id": 7, "a": { "c": 2 }, "y": [{ "b": 1 }, 7, [{}, 8]] };
    assert_eq!(applied(&both, &document).to_vec().unwrap(), expected.to_vec().unwrap());
}

#[test]
fn masks_stand_in_the_place_of_values_and_of_items() {
    let document = doc! {
        "_id": 1, "n": "Ägypten", "w": 1_234_567, "d": { "x": { "b": true, "a": [1, null] } },
        "l": ["one", null, ["two"], { "k": 1 }], "gone": "x", "none": null,
        "p": [{ "q": "first" }, { "q": "second", "r": 2 }, 3],
    };
    let masks = [
        ("n", Mask::First(2)),
        ("w", Mask::Hash),
        ("d.x", Mask::Hash),
        ("l", Mask::Hash),
        ("gone", Mask::Null),
        ("none", Mask::Hash),
        ("p.q", Mask::First(3)),
        ("absent", Mask::Null),
    ];
    let expected = doc! {
        "_id": 1, "n": "Äg", "w": hashed("1234567"),
        "d": { "x": hashed("{\"a\":[1,null],\"b\":true}") },
        "l": [hashed("one"), null, [hashed("two")], hashed("{\"k\":1}")], "gone": null,
        "none": null, "p": [{ "q": "fir" }, { "q": "sec", "r": 2 }, 3],
    };
    assert_eq!(
        applied(&redaction(&[], &[], &masks), &document).to_vec().unwrap(),
        expected.to_vec().unwrap()
    );
    let no_key =
        Hidden { masks: vec![(parse_path("w").unwrap(), Mask::Hash)], ..Hidden::default() };
    assert_eq!(applied(&Redaction::new(&no_key, None), &doc! { "w": 1 }), doc! { "w": null });
}

/// What `encode(hmac('1234567', key, 'sha256'), 'hex')` says, to its first half.
#[test]
fn a_hash_is_what_postgres_and_openssl_make_of_the_same_text() {
    assert_eq!(hashed("1234567"), "581b5cac654669857e631f098bd0568b");
    assert!(MaskKey::new(b"fifteen bytes..").is_none());
    assert_eq!(format!("{:?}", key()), "***");
}

#[test]
fn masks_are_of_the_text_that_columns_show() {
    let at = bson::DateTime::from_millis(1_795_342_490_634);
    let id = bson::oid::ObjectId::from_bytes([0xab; 12]);
    let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![1, 2, 3] };
    for (value, text) in [
        (Bson::from(at), "2026-11-22T10:14:50.634Z"),
        (id.into(), "abababababababababababab"),
        (true.into(), "true"),
        (Bson::Double(1.5), "1.5"),
        (Bson::Double(f64::NAN), "NaN"),
        (binary.into(), "AQID"),
        (Bson::from("a\0b"), "a\u{fffd}b"),
        (Bson::MinKey, "{\"$minKey\":1}"),
    ] {
        let masked = applied(&redaction(&[], &[], &[("v", Mask::First(99))]), &doc! { "v": value });
        assert_eq!(masked.get_str("v").unwrap(), text);
    }
    for (text, mask) in [
        ("null", Some(Mask::Null)),
        ("hash", Some(Mask::Hash)),
        ("first_4", Some(Mask::First(4))),
        ("first_1000", Some(Mask::First(1_000))),
        ("first_0", None),
        ("first_1001", None),
        ("first_+4", None),
        ("first_", None),
        ("Hash", None),
    ] {
        assert_eq!(Mask::parse(text), mask, "{text}");
        assert!(mask.is_none_or(|mask| mask.to_string() == text));
    }
}

#[test]
fn a_fingerprint_is_of_what_is_hidden_and_of_the_key_but_not_of_the_order() {
    let one = redaction(&["b", "a"], &["c"], &[("a", Mask::Hash)]);
    assert_eq!(one, redaction(&["a", "b"], &["c"], &[("a", Mask::Hash)]));
    let others = [
        redaction(&["a"], &["c"], &[("a", Mask::Hash)]),
        redaction(&["a", "b", "c"], &[], &[("a", Mask::Hash)]),
        redaction(&["a", "b"], &["c"], &[("b", Mask::Hash)]),
        redaction(&["a", "b"], &["c"], &[("a", Mask::Null)]),
        redaction(&["a", "b"], &["c"], &[]),
    ];
    for other in others {
        assert_ne!(one, other);
    }
    let hidden =
        Hidden { masks: vec![(parse_path("a").unwrap(), Mask::Hash)], ..Hidden::default() };
    let other_key = MaskKey::new(b"another key, of 16 bytes").unwrap();
    let with = |key| Redaction::new(&hidden, Some(key));
    assert_ne!(with(&key()), with(&other_key), "another key makes other rows");
    let shown = format!("{one:?}");
    assert!(shown.len() == "Redaction()".len() + 64 && !shown.contains("a key"), "{shown}");
    assert!(Redaction::default().fingerprint().is_empty());
}

#[test]
fn a_path_that_leads_somewhere_is_told_from_one_that_leads_nowhere() {
    let bytes = doc! { "a": [[{ "b": null }], 7], "c": { "d": 1 } }.to_vec().unwrap();
    let is_there =
        |path: &str| super::is_there(Doc::new(&bytes).unwrap(), &parse_path(path).unwrap());
    assert!(["a", "a.b", "c.d"].into_iter().all(is_there));
    assert!(!["b", "a.c", "a.0", "a.b.c", "c.d.e"].into_iter().any(is_there));
}

#[test]
fn what_would_grow_without_end_is_refused() {
    let redaction = redaction(&[], &[], &[("v", Mask::Hash)]);
    let items = doc! { "_id": 1, "v": vec![Bson::Int32(7); 10_000] }.to_vec().unwrap();
    let of = |end| redaction.apply(Doc::new(&items).unwrap(), Bound { fields: 5, end });
    assert_eq!(of(100_000), Err(Unwritable::Bytes));
    assert!(of(400_000).is_ok());
    let fields: Document = (0..6).map(|number| (format!("k{number}"), Bson::Null)).collect();
    let many = doc! { "v": fields }.to_vec().unwrap();
    let limits = Bound { fields: 5, end: 1_000 };
    assert_eq!(redaction.apply(Doc::new(&many).unwrap(), limits), Err(Unwritable::Fields));
}

fn event(document: Document) -> Vec<u8> {
    let event = doc! {
        "_id": { "_data": "82" }, "operationType": "update", "clusterTime": bson::Timestamp {
            time: 7, increment: 1,
        }, "wallTime": bson::DateTime::from_millis(0), "ns": { "db": "d", "coll": "c" },
        "documentKey": { "shard": "s3cret", "_id": 1 }, "fullDocument": document,
        "fullDocumentBeforeChange": { "a": "s3cret" },
        "updateDescription": { "updatedFields": { "a": "s3cret", "b.0.a": "s3cret" } },
    };
    event.to_vec().unwrap()
}

#[test]
fn of_an_event_that_is_set_aside_nothing_hidden_is_kept_and_its_key_can_be_read() {
    let redaction = redaction(&[], &["a"], &[("b", Mask::Hash)]);
    let whole = event(doc! { "_id": 1, "a": "s3cret", "b": "s3cret", "c": "kept" });
    let none = Evidence::of_event(&whole, &Redaction::default(), Bound::NONE);
    assert_eq!(none.bytes(), whole, "where nothing is hidden it is kept whole");
    let kept = Evidence::of_event(&whole, &redaction, Bound::NONE);
    let read: Document = bson::deserialize_from_slice(kept.bytes()).unwrap();
    let document = doc! { "_id": 1, "b": hashed("s3cret"), "c": "kept" };
    assert_eq!(read.get_document("fullDocument").unwrap(), &document);
    assert_eq!(read.get_document("documentKey").unwrap(), &doc! { "_id": 1 });
    assert!(!contains(kept.bytes(), b"s3cret"));
    assert!(Event::parse(kept.bytes()).unwrap().id.is_some(), "a retry finds the document");
    // A document that cannot be redacted, an event that cannot be read, bytes that are none.
    let mut nested = doc! { "a": "s3cret" };
    for _ in 0..210 {
        nested = doc! { "d": [nested] };
    }
    let deep: Vec<&str> = vec!["d"; 210];
    let path = [&deep[..], &["a"]].concat().join(".");
    let redaction_of_deep = self::redaction(&[], &[&path], &[]);
    let too_deep = event(doc! { "_id": 1, "d": nested.remove("d").unwrap() });
    let kept = Evidence::of_event(&too_deep, &redaction_of_deep, Bound::NONE);
    assert!(!contains(kept.bytes(), b"s3cret") && !contains(kept.bytes(), b"fullDocument"));
    assert!(Event::parse(kept.bytes()).is_ok());
    for end in 0..whole.len() {
        let kept = Evidence::of_event(&whole[..end], &redaction, Bound::NONE);
        assert!(!contains(kept.bytes(), b"s3cret"), "cut at {end}");
        let kept = Evidence::of_document(&whole[..end], &redaction, Bound::NONE);
        assert!(!contains(kept.bytes(), b"s3cret"), "cut at {end}");
    }
}

#[test]
fn a_letter_that_stands_is_rewritten_as_what_it_is() {
    let redaction = redaction(&[], &["a", "fullDocument"], &[]);
    let of = |operation: &str, document: &Document| {
        let bytes = document.to_vec().unwrap();
        let kept = Evidence::of_letter(operation, &bytes, &redaction, Bound::NONE);
        bson::deserialize_from_slice::<Document>(kept.bytes()).unwrap()
    };
    let walked = doc! { "_id": 1, "a": "s3cret", "b": 2 };
    assert_eq!(of("snapshot", &walked), doc! { "_id": 1, "b": 2 });
    for operation in ["snapshot", "delete", "update"] {
        assert_eq!(of(operation, &doc! { "_id": 1 }), doc! { "_id": 1 }, "a key alone");
    }
    assert_eq!(of("unreadable", &doc! { "_id": 1, "x": "s3cret" }), doc! {});
    let live: Document = bson::deserialize_from_slice(&event(walked)).unwrap();
    let kept = of("update", &live);
    assert_eq!(kept.get_document("fullDocument").unwrap(), &doc! { "_id": 1, "b": 2 });
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// Values of few names, deeply mixed.
fn value() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        Just(Bson::Null),
        any::<i32>().prop_map(Bson::Int32),
        "[a-z\u{e4}]{0,4}".prop_map(Bson::String),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            prop::collection::vec(("[abc]", inner), 0..4)
                .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// What is left is BSON; to redact it again leaves it so where nothing is hashed; and of what
    /// is hidden there is nothing.
    #[test]
    fn what_is_left_is_whole_and_hides_what_it_should(
        fields in prop::collection::vec(("[abc]", value()), 0..5),
        exclude in prop::collection::btree_set("[abc](\\.[abc]){0,2}", 0..3),
        nulled in prop::collection::btree_set("[abc](\\.[abc]){0,2}", 0..3),
    ) {
        let mut document = doc! { "_id": 1 };
        document.extend(fields);
        let exclude: Vec<&str> = exclude.iter().map(String::as_str).collect();
        let masks: Vec<(&str, Mask)> = nulled.iter().map(|path| (&**path, Mask::Null)).collect();
        let redaction = redaction(&[], &exclude, &masks);
        let once = applied(&redaction, &document);
        prop_assert_eq!(&applied(&redaction, &once), &once);
        for path in exclude {
            let parts: Vec<&str> = path.split('.').collect();
            prop_assert!(leads_nowhere(&Bson::Document(once.clone()), &parts));
        }
    }
}

fn leads_nowhere(value: &Bson, path: &[&str]) -> bool {
    match value {
        Bson::Array(items) => items.iter().all(|item| leads_nowhere(item, path)),
        Bson::Document(document) => match path {
            [last] => !document.contains_key(last),
            [head, rest @ ..] => document.get(head).is_none_or(|inner| leads_nowhere(inner, rest)),
            [] => true,
        },
        _ => true,
    }
}
