//! The story the software was born from: a silent collection must not lose its place.

use devstack::{Mongo, MongoOptions, Stack};
use mongodb::bson::doc;

use crate::support::{Config, World, state};

/// The named regression test: recommendations fall silent on Friday, the history rolls over, Monday
/// must find its place.
#[tokio::test]
async fn a_silent_collection_keeps_its_place_while_others_roll_the_oplog() {
    let mongo = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let database = Stack::shared().postgres.database().await.unwrap();
    let world =
        World::of(&mongo.uri(), &Stack::shared().postgres.url(&database), Config::default()).await;
    world.collection("recommendation").insert_one(doc! { "gmcNumber": "1000001" }).await.unwrap();
    let mut daemon = world.start();
    let friday =
        daemon.until("recommendation", "has a position", |s| s["phase"] == "streaming").await;
    world.until_equal("recommendation", "public.recommendation").await;

    let followed = async || state::until_young(&world, "recommendation").await;
    mongo.roll_oplog_gently(3, followed).await.unwrap();
    daemon
        .until("recommendation", "moved on in silence", |s| {
            s["position"]["cluster_time"] != friday["position"]["cluster_time"]
        })
        .await;
    let headroom = daemon
        .until("recommendation", "headroom is known", |s| s["headroom_seconds"].is_number())
        .await;
    assert!(headroom["headroom_seconds"].as_f64() <= headroom["history_window_seconds"].as_f64());
    assert_eq!(daemon.stop().0, Some(0));

    world.collection("recommendation").insert_one(doc! { "gmcNumber": "1000002" }).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("recommendation", "streaming").await;
    assert_eq!(world.until_equal("recommendation", "public.recommendation").await, 2);
    let walks: i64 =
        world.scalar("select count(*) from tidemark.resync where stream = 'recommendation'").await;
    assert_eq!(walks, 1, "only the first snapshot ever walked");
}
