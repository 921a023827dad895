//! Values and shapes that a document may have: guarantees 1 and 8 where `_id`s change their type,
//! 11 where documents are large or have a shape of their own, 12 where keys are data.

use std::str::FromStr;

use mongodb::bson::{Bson, Decimal128, RawDocumentBuf, doc};

use crate::support::{Config, World, peak_bytes, state, stream};

fn decimal(text: &str) -> Bson {
    Bson::Decimal128(Decimal128::from_str(text).unwrap())
}

/// Values the server takes for one `_id`.
fn equals(number: i32) -> Vec<Bson> {
    let (long, double) = (i64::from(number), f64::from(number));
    let nested = |inner: Bson| Bson::Document(doc! { "n": [inner], "of": number });
    match number % 3 {
        0 => vec![nested(number.into()), nested(long.into()), nested(double.into())],
        1 => vec![format!("s{number}").into(), Bson::Symbol(format!("s{number}"))],
        _ => {
            let decimals = [decimal(&format!("{number}")), decimal(&format!("{number}.00"))];
            [number.into(), long.into(), double.into()].into_iter().chain(decimals).collect()
        }
    }
}

/// Guarantee 1: one document, one row, whatever type its `_id` is replaced by; live, walked and
/// repaired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_replaced_by_an_equal_one_of_another_type_is_one_row() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let extra = "resync.chunk_documents = 7".to_owned();
    let world =
        World::with(Config { streams: stream("odd", "odd", ""), extra, ..Config::default() }).await;
    let odd = world.collection("odd");
    let first: Vec<_> = (1..=60).map(|n| doc! { "_id": equals(n)[0].clone(), "n": 0 }).collect();
    odd.insert_many(first).await.unwrap();
    odd.insert_many([doc! { "_id": -0.0 }, doc! { "_id": f64::NAN }]).await.unwrap();
    let mut daemon = world.start();
    for round in 0..3 {
        for turn in 0..300 {
            let number = rng.i32(1..=60);
            let of = equals(number);
            let (by, to) = (of[rng.usize(..of.len())].clone(), of[rng.usize(..of.len())].clone());
            let filter = doc! { "_id": by };
            match rng.u8(..10) {
                0 => drop(odd.delete_one(filter).await.unwrap()),
                1..4 => drop(odd.update_one(filter, doc! { "$set": { "n": turn } }).await.unwrap()),
                _ => {
                    let replacement = doc! { "_id": to, "n": turn };
                    let update = doc! { "q": filter, "u": replacement, "upsert": rng.bool() };
                    // An upsert by one type with a document of another is refused; nothing else is.
                    let command = doc! { "update": "odd", "updates": [update] };
                    world.source.run_command(command).await.unwrap();
                }
            }
        }
        for (by, to) in [(0.0, Bson::Int32(0)), (f64::NAN, decimal("NaN"))] {
            let update = doc! { "q": { "_id": by }, "u": { "_id": to, "round": round } };
            world.source.run_command(doc! { "update": "odd", "updates": [update] }).await.unwrap();
        }
        world.until_equal("odd", "public.odd").await;
        match round {
            // Killed: what was not committed is read again.
            0 => {
                daemon.kill();
                daemon = world.start();
            }
            // Changes nobody read: a walk repairs them, and its sweep takes the rows of before.
            1 => {
                assert_eq!(daemon.stop().0, Some(0));
                for number in 1..=60 {
                    let of = equals(number);
                    let update = doc! { "q": { "_id": &of[0] }, "u": { "_id": &of[1], "n": -1 } };
                    world
                        .source
                        .run_command(doc! { "update": "odd", "updates": [update] })
                        .await
                        .unwrap();
                }
                world.execute("update tidemark.checkpoint set resume_token = null").await;
                daemon = world.start();
            }
            _ => {}
        }
    }
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
}

/// Guarantees 11 and 12: a collection with a key a person makes no report of people.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_data_stand_nowhere_and_reports_stay_small() {
    let column = "column = [ { name = \"kind\", field = \"kind\", type = \"text\" } ]";
    let world =
        World::with(Config { streams: stream("map", "map", column), ..Config::default() }).await;
    let map = world.collection("map");
    // Letters only, as names have.
    let letters = |number: u32| -> String {
        let digits = format!("{number:06}");
        digits.bytes().map(|digit| char::from(b'a' + digit - b'0')).collect()
    };
    let document = |n: u32| {
        let keys =
            (0..100).map(|key| (format!("zqperson{}", letters(n * 100 + key)), Bson::Int32(1)));
        keys.chain([("kind".to_owned(), "map".into())]).collect::<mongodb::bson::Document>()
    };
    map.insert_many((0..500).map(document)).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("map", "streaming").await;
    map.insert_many((500..1_000).map(document)).await.unwrap();
    map.update_many(doc! {}, doc! { "$set": { "aNewField": 1 } }).await.unwrap();
    world.until_equal("map", "public.map").await;
    let told = |s: &serde_json::Value| {
        s["drift"].as_array().unwrap().iter().any(|drift| drift["field"] == "aNewField")
    };
    let status = daemon.until("map", "a field among them is told", told).await;
    assert_eq!(status["drift"].as_array().unwrap().len(), 1, "{status:#}");
    assert_eq!(status["fields"]["unmapped"], serde_json::json!(["(keys look like data)"]));
    let report = state::report("map");
    world.until("it is reported", &format!("select ({report})::text like '%aNewField%'")).await;
    let mut shown = vec![daemon.log()];
    for path in ["/status", "/metrics", "/"] {
        shown.push(daemon.get(path).await.1);
    }
    shown.push(world.scalar(&format!("select ({report})::text")).await);
    assert!(shown[4].len() < 8_000, "{} bytes", shown[4].len());
    for (place, text) in shown.iter().enumerate() {
        assert!(!text.contains("zqperson"), "place {place}");
    }
}

/// Sixteen megabytes in as many fields as there can be.
fn tiny_fields() -> RawDocumentBuf {
    let mut bytes = vec![0; 4];
    bytes.extend(b"\x10_id\0\x01\0\0\0");
    let mut number = 0_u32;
    while bytes.len() < (16 << 20) - 64 {
        bytes.push(0x0a);
        bytes.extend(format!("{number:x}").bytes());
        bytes.push(0);
        number += 1;
    }
    bytes.push(0);
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    bytes[..4].copy_from_slice(&length);
    RawDocumentBuf::from_bytes(bytes).unwrap()
}

/// Guarantee 11: what a document costs is bounded whatever its shape, and what is too large is set
/// aside whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_of_sixteen_megabytes_of_any_shape_are_bounded_or_set_aside() {
    let streams =
        stream("odd", "odd", "column = [ { name = \"text\", field = \"text\", type = \"text\" } ]");
    let world = World::with(Config { streams, ..Config::default() }).await;
    let raw = world.source.collection::<RawDocumentBuf>("odd");
    let control = |id: i32| {
        let text = "\u{1}".repeat((16 << 20) - 200);
        RawDocumentBuf::try_from(&doc! { "_id": id, "text": text }).unwrap()
    };
    let plain = RawDocumentBuf::try_from(&doc! { "_id": 3, "text": "x".repeat(15 << 20) }).unwrap();
    // Walked.
    for document in [tiny_fields(), control(2), plain] {
        raw.insert_one(document).await.unwrap();
    }
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    let walked = peak_bytes(&daemon);
    // Live: by their events, by a look-up.
    raw.insert_one(control(4)).await.unwrap();
    let odd = world.collection("odd");
    odd.update_one(doc! { "_id": 1 }, doc! { "$set": { "more": 1 } }).await.unwrap();
    odd.insert_one(doc! { "_id": 5, "text": "small" }).await.unwrap();
    let list = "select string_agg(document_id || ' ' || operation || ' ' || code, ', ' order by \
                id) from tidemark.dead_letter";
    world
        .until(
            "the last has come",
            "select exists (select from public.odd where doc ->> 'text' = 'small')",
        )
        .await;
    let letters: String = world.scalar(list).await;
    let id = |n: i32| format!("{{\"$numberInt\":\"{n}\"}}");
    let wanted = [(1, "snapshot"), (2, "snapshot"), (4, "insert"), (1, "update")];
    let wanted = wanted.map(|(n, operation)| format!("{} {operation} too_large", id(n)));
    assert_eq!(letters, wanted.join(", "));
    assert_eq!(
        daemon.metric("tidemark_dead_letters_total{code=\"too_large\",stream=\"odd\"}").await,
        4.0
    );
    assert_eq!(world.column("select id from public.odd order by id").await, [id(3), id(5)]);
    println!("walked: {} MiB, live: {} MiB", walked >> 20, peak_bytes(&daemon) >> 20);
    assert!(peak_bytes(&daemon) < 256 << 20, "{} MiB", peak_bytes(&daemon) >> 20);
}
