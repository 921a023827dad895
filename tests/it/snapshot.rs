//! The first snapshot: every `_id` type, kills in the middle, changes all the while.

use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Timestamp, doc,
};

use crate::support::{Config, World, stream};

fn ids() -> Vec<Bson> {
    let mut ids: Vec<Bson> = vec![
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Null,
        f64::NAN.into(),
        f64::INFINITY.into(),
        f64::NEG_INFINITY.into(),
        true.into(),
        false.into(),
        1.into(),
        "1".into(),
        "true".into(),
        "".into(),
        "5f1a2b3c4d5e6f7081920a0b".into(),
        ObjectId::parse_str("5f1a2b3c4d5e6f7081920a0b").unwrap().into(),
        "{\"$oid\":1}".into(),
        "a\0b".into(),
        Bson::Symbol("sym".into()),
        Bson::JavaScriptCode("f()".into()),
        Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
            code: "f()".into(),
            scope: doc! { "x": 1 },
        }),
        Bson::Timestamp(Timestamp { time: 7, increment: 8 }),
        Bson::Decimal128("1.50".parse::<Decimal128>().unwrap()),
        i64::MAX.into(),
        DateTime::from_millis(i64::MAX).into(),
        DateTime::from_millis(i64::MIN).into(),
    ];
    ids.extend((2..40).map(Bson::from));
    ids.extend((0..40).map(|n| Bson::from(format!("s{n:03}"))));
    ids.extend((0..20).map(|n| Bson::from(doc! { "a": n, "b": "x" })));
    ids.extend((0..20_u8).map(|n| Bson::from(ObjectId::from_bytes([n; 12]))));
    ids.extend(
        (0..20_u8)
            .map(|n| Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![n; 3] })),
    );
    ids.extend((1..20).map(|n| Bson::from(DateTime::from_millis(n * 1000))));
    ids
}

fn config(chunk: usize) -> Config {
    Config {
        extra: format!("resync.chunk_documents = {chunk}"),
        streams: stream("odd", "odd", ""),
        ..Config::default()
    }
}

#[tokio::test]
async fn ids_of_every_type_are_walked_in_chunks_of_any_size_and_followed() {
    for chunk in [1, 7, 1_000] {
        let world = World::with(config(chunk)).await;
        let documents: Vec<Document> =
            ids().into_iter().map(|id| doc! { "_id": id, "n": 1 }).collect();
        world.collection("odd").insert_many(&documents).await.unwrap();
        let daemon = world.start();
        daemon.until_phase("odd", "streaming").await;
        let rows: i64 = world.scalar("select count(*) from public.odd").await;
        assert_eq!(usize::try_from(rows).unwrap(), documents.len(), "chunks of {chunk}");
        // Looked up by the very `_id`s, whatever their type.
        world.collection("odd").update_many(doc! {}, doc! { "$set": { "n": 2 } }).await.unwrap();
        world
            .until("every update arrived", "select bool_and(doc ->> 'n' = '2') from public.odd")
            .await;
        world.collection("odd").delete_many(doc! {}).await.unwrap();
        world.until("every delete arrived", "select count(*) = 0 from public.odd").await;
    }
}

#[tokio::test]
async fn killed_in_the_middle_the_walk_goes_on_where_it_was() {
    // Under a limit, however high, each chunk is one find and one commit: so many are counted
    // below.
    let extra = "resync.chunk_documents = 50\nresync.documents_per_second_max = 1000000".into();
    let world =
        World::with(Config { extra, streams: stream("odd", "odd", ""), ..Config::default() }).await;
    let documents: Vec<Document> = (0..3_000).map(|n| doc! { "_id": n, "n": 0 }).collect();
    world.collection("odd").insert_many(documents).await.unwrap();
    let mut read: Vec<i64> = Vec::new();
    // Others commit, too: until it was killed at two places of the walk.
    let is_enough =
        |read: &[i64]| read.len() > 2 && read.iter().any(|n| 0 < *n && *n < read[read.len() - 1]);
    while !is_enough(&read) {
        let count = 9 + i32::try_from(read.len()).unwrap();
        assert!(count < 30, "it comes no further: {read:?}");
        let mut daemon = world
            .start_with(&[("TIDEMARK_FAILPOINT", &format!("apply.after_commit=abort@{count}"))]);
        // Changed, deleted and inserted on both sides of the walk's place.
        let collection = world.collection("odd");
        collection
            .update_many(doc! { "_id": { "$mod": [37, count] } }, doc! { "$inc": { "n": 1 } })
            .await
            .unwrap();
        collection.delete_many(doc! { "_id": { "$mod": [41, count] } }).await.unwrap();
        collection.insert_one(doc! { "_id": 10_000 + count }).await.unwrap();
        collection.insert_one(doc! { "_id": -count }).await.unwrap();
        while daemon.is_running() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let so_far = "select coalesce(max(documents_read), 0) from tidemark.resync";
        read.push(world.scalar(so_far).await);
    }
    let lives = i64::try_from(read.len()).unwrap();
    assert!(read.is_sorted() && read.iter().all(|n| *n < 3_000), "progress is kept: {read:?}");
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", "public.odd").await;
    let (walks, read): (i64, i64) =
        sqlx::query_as("select count(*), max(documents_read) from tidemark.resync")
            .fetch_one(&mut world.pg().await)
            .await
            .unwrap();
    assert_eq!(walks, 1, "one walk, resumed");
    assert!(read <= 3_000 + 2 * lives, "no chunk was read twice: {read}");
    assert!(daemon.log().contains("walk under way"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_every_moment_of_the_walk_converge() {
    let world = World::with(config(20)).await;
    let documents: Vec<Document> = (0..2_000).map(|n| doc! { "_id": n, "n": 0 }).collect();
    world.collection("odd").insert_many(documents).await.unwrap();
    let collection = world.collection("odd");
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let working = tokio::spawn(async move {
        let mut rng = fastrand::Rng::with_seed(seed);
        for _ in 0..1_500 {
            let key = doc! { "_id": rng.i32(-200..2_200) };
            match rng.u8(..4) {
                0 => drop(collection.delete_one(key).await.unwrap()),
                1 => drop(collection.update_one(key, doc! { "$inc": { "n": 1 } }).await.unwrap()),
                _ => drop(
                    collection
                        .replace_one(key, doc! { "n": rng.i32(..) })
                        .upsert(true)
                        .await
                        .unwrap(),
                ),
            }
        }
    });
    let daemon = world.start();
    let walking = daemon
        .until("odd", "is walking", |s| s["phase"] == "snapshotting" || s["phase"] == "streaming")
        .await;
    assert_eq!(walking["source"], format!("{}.odd", world.name));
    working.await.unwrap();
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", "public.odd").await;
}

#[tokio::test]
async fn rows_that_no_position_speaks_for_are_repaired_and_not_trusted() {
    let world = World::with(config(100)).await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world
        .execute("insert into public.odd (id, doc, _cluster_time) values ('stale', '{}', 0)")
        .await;
    world.collection("odd").insert_one(doc! { "_id": "living" }).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    assert_eq!(world.until_equal("odd", "public.odd").await, 1);
    let told: (String, i64, i64) = world
        .row(
            "select reason, g.rows_inserted, g.rows_deleted from tidemark.resync r join \
             tidemark.gap_report g on g.resync_id = r.id",
        )
        .await;
    assert_eq!(told, ("position_missing".to_owned(), 1, 1));
}

/// Documents of 16 MB, and an update whose event would be larger still: memory stays bounded,
/// nothing is lost.
#[tokio::test]
async fn documents_as_large_as_they_come_pass_through() {
    let world = World::with(config(1_000)).await;
    let large = |id: i32, fill: char| {
        doc! { "_id": id, "data": fill.to_string().repeat(16 * 1024 * 1024 - 64) }
    };
    let collection = world.collection("odd");
    for id in 0..3 {
        collection.insert_one(large(id, 'a')).await.unwrap();
    }
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    collection.insert_one(large(3, 'b')).await.unwrap();
    collection.replace_one(doc! { "_id": 0 }, large(0, 'c')).await.unwrap();
    collection
        .update_one(
            doc! { "_id": 1 },
            doc! { "$set": { "data": "d".repeat(16 * 1024 * 1024 - 64) } },
        )
        .await
        .unwrap();
    collection.insert_one(doc! { "_id": 9 }).await.unwrap();
    assert_eq!(world.until_equal("odd", "public.odd").await, 5);
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
}
