//! The filter against the server's own `find`, over generated documents of every BSON type.

use std::collections::BTreeSet;

use fastrand::Rng;
use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp, doc,
};
use tidemark::model::filter::Filter;

use crate::support::World;

const DOCUMENTS: i32 = 400;
const FILTERS: usize = 3_000;

/// From few values, so that many are equal; of documents, of types that a filter cannot name, too.
fn value(rng: &mut Rng, depth: u32, is_document: bool) -> Bson {
    let decimal = |text: &str| Bson::Decimal128(text.parse::<Decimal128>().unwrap());
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    let number = rng.i32(-2..4);
    match rng.u32(0..if is_document { 30 } else { 23 }) {
        0 => Bson::Null,
        1 => Bson::Boolean(rng.bool()),
        5 => Bson::Int64(number.into()),
        6 => Bson::Int64((1 << 53) + i64::from(number)),
        7 => Bson::Double(f64::from(number)),
        8 => Bson::Double(f64::from(number) / 2.0),
        9 => [f64::NAN, f64::INFINITY, -0.0, 9_007_199_254_740_992.0, 0.1, 1e300][rng.usize(0..6)]
            .into(),
        10 => decimal(["1", "1.0", "0.1", "NaN", "-Infinity", "9007199254740993"][rng.usize(0..6)]),
        11..=13 => Bson::String(["", "a", "b", "aB", "é", "a\0"][rng.usize(0..6)].to_owned()),
        14 => Bson::DateTime(DateTime::from_millis(number.into())),
        15 => Bson::ObjectId(ObjectId::from_bytes([rng.u8(1..3); 12])),
        16 => binary(BinarySubtype::Generic, &[rng.u8(0..2)]),
        17 => binary(BinarySubtype::Uuid, &[rng.u8(0..2); 16]),
        18 => Bson::Timestamp(Timestamp { time: rng.u32(0..3), increment: 1 }),
        19 | 20 if depth > 0 => Bson::Document(document(rng, depth - 1, is_document)),
        21 | 22 if depth > 0 => {
            Bson::Array((0..rng.usize(0..4)).map(|_| value(rng, depth - 1, is_document)).collect())
        }
        23 => Bson::Undefined,
        24 => Bson::MinKey,
        25 => Bson::MaxKey,
        26 => Bson::Symbol("a".to_owned()),
        27 => {
            let (pattern, options) = ("a".try_into().unwrap(), "i".try_into().unwrap());
            Bson::RegularExpression(Regex { pattern, options })
        }
        28 => Bson::JavaScriptCode("a".to_owned()),
        29 => {
            let scope = doc! { "x": number };
            let code = "a".to_owned();
            Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope })
        }
        _ => Bson::Int32(number),
    }
}

fn document(rng: &mut Rng, depth: u32, is_document: bool) -> Document {
    let mut keys = ["x", "y", "z"];
    rng.shuffle(&mut keys);
    let number = rng.usize(0..3);
    keys[..number].iter().map(|key| ((*key).to_owned(), value(rng, depth, is_document))).collect()
}

fn path(rng: &mut Rng) -> String {
    let parts: Vec<&str> = (0..rng.usize(1..4)).map(|_| ["x", "y", "z"][rng.usize(0..3)]).collect();
    parts.join(".")
}

fn condition(rng: &mut Rng, depth: u32) -> Document {
    let mut filter = Document::new();
    for _ in 0..rng.usize(1..3) {
        if depth > 0 && rng.u32(0..5) == 0 {
            let list: Vec<Document> =
                (0..rng.usize(1..4)).map(|_| condition(rng, depth - 1)).collect();
            filter.insert(["$and", "$or"][rng.usize(0..2)], list);
            continue;
        }
        let list = |rng: &mut Rng| -> Vec<Bson> {
            (0..rng.usize(0..5)).map(|_| value(rng, 2, false)).collect()
        };
        let asked: Bson = match rng.u32(0..10) {
            0..=2 => value(rng, 2, false),
            3 => doc! { "$in": list(rng) }.into(),
            4 => doc! { "$nin": list(rng) }.into(),
            5 => doc! { "$exists": rng.bool() }.into(),
            6 => doc! { "$gt": value(rng, 2, false), "$lte": value(rng, 2, false) }.into(),
            _ => {
                let operators = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"];
                doc! { operators[rng.usize(0..6)]: value(rng, 2, false) }.into()
            }
        };
        filter.insert(path(rng), asked);
    }
    filter
}

#[tokio::test]
async fn what_matches_is_what_the_server_finds() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let world = World::new().await;
    let documents: Vec<Document> = (0..DOCUMENTS)
        .map(|n| {
            let mut whole = doc! { "_id": n };
            whole.extend(document(&mut rng, 4, true));
            whole
        })
        .collect();
    let things = world.collection("things");
    things.insert_many(&documents).await.unwrap();
    let bytes: Vec<Vec<u8>> =
        documents.iter().map(|one| mongodb::bson::serialize_to_vec(one).unwrap()).collect();
    let (mut matched, mut wrong) = (0, Vec::new());
    for _ in 0..FILTERS {
        let filter = Bson::Document(condition(&mut rng, 2));
        let json = if rng.bool() {
            filter.into_canonical_extjson()
        } else {
            filter.into_relaxed_extjson()
        };
        let text = json.to_string();
        let ours = Filter::parse(&text).map_err(|why| format!("{text}: {why}")).unwrap();
        let Some(ours) = ours else {
            continue;
        };
        let asked: Document = serde_json::from_str(&text).unwrap();
        let found = things.find(asked).projection(doc! { "_id": 1 }).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        let found: BTreeSet<i32> = found.iter().map(|one| one.get_i32("_id").unwrap()).collect();
        matched += found.len();
        for (n, document) in (0..DOCUMENTS).zip(&bytes) {
            if ours.follows(document) != found.contains(&n) {
                let server = if found.contains(&n) { "matches" } else { "does not match" };
                wrong
                    .push(format!("{text}\n  {server} {}", documents[usize::try_from(n).unwrap()]));
            }
        }
    }
    wrong.sort_by_key(String::len);
    let shown: Vec<&String> = wrong.iter().take(12).collect();
    assert!(wrong.is_empty(), "seed {seed}: {} differ, such as\n{shown:#?}", wrong.len());
    println!("{matched} of {} pairs match", FILTERS * usize::try_from(DOCUMENTS).unwrap());
    assert!(matched > 10_000, "hardly anything matches: {matched}");
}
