//! Capped collections: no moment of theirs can be read, and what they drop by themselves.

use mongodb::bson::doc;
use mongodb::options::CreateCollectionOptions;

use crate::support::{Config, World, run, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_capped_collection_is_followed_and_holds_up_none_of_its_group() {
    let streams = stream("capped", "capped", "") + &stream("orders", "orders", "");
    let world = World::with(Config { streams, ..Config::default() }).await;
    let options = CreateCollectionOptions::builder().capped(true).size(1_000_000).max(50).build();
    world.source.create_collection("capped").with_options(options).await.unwrap();
    for name in ["capped", "orders"] {
        let documents = (0..40).map(|id| doc! { "_id": id, "n": 0 });
        world.collection(name).insert_many(documents).await.unwrap();
    }
    let (code, told) = run(&world, &["init", "--json"]);
    assert_eq!(code, Some(0), "{told}");
    let daemon = world.start();
    for name in ["capped", "orders"] {
        daemon.until_phase(name, "streaming").await;
    }
    for round in 1..=3 {
        for name in ["capped", "orders"] {
            let set = doc! { "$set": { "n": round } };
            world.collection(name).update_many(doc! { "_id": { "$gte": 20 } }, set).await.unwrap();
            world.until_equal(name, &format!("public.{name}")).await;
        }
    }
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(0), "{told}");
    let more = (0..40).map(|id| doc! { "_id": 100 + id, "n": 0 });
    world.collection("capped").insert_many(more).await.unwrap();
    world.until_equal("capped", "public.capped").await;
    assert_eq!(world.scalar::<i64>("select count(*) from public.capped").await, 50);
    let walks = "select count(*) from tidemark.resync where reason <> 'first_snapshot'";
    assert_eq!(world.scalar::<i64>(walks).await, 0);
}
