//! Guarantee 15 where chance seldom leads: what a group says of its exactness while a walk is open
//! and its position goes back, and at its very first position.

use devstack::{Mongo, MongoOptions, Stack};
use mongodb::ClusterTime;
use mongodb::bson::{Binary, Timestamp, deserialize_from_document, doc, spec::BinarySubtype};

use crate::support::{Config, World, run, stream};

fn two_streams() -> String {
    let column = "column = [ { name = \"n\", field = \"n\", type = \"bigint\" } ]";
    format!("{}{}", stream("kept", "kept", column), stream("other", "other", column))
}

fn obeyed(world: &World, arguments: &[&str]) {
    let (code, told) = run(world, &[arguments, &["--reason", "a test", "--execute"]].concat());
    assert_eq!(code, Some(0), "{told}");
}

#[tokio::test]
async fn a_walk_that_ends_after_the_position_went_back_does_not_make_the_table_exact() {
    let extra = "resync.delete_count_min = 0\nresync.delete_fraction_max = 0.0001".to_owned();
    let world = World::with(Config { extra, streams: two_streams(), ..Config::default() }).await;
    world.source.create_collection("other").await.unwrap();
    for n in 0..10 {
        world.collection("kept").insert_one(doc! { "_id": n, "n": n }).await.unwrap();
    }
    let daemon = world.start();
    daemon.until_phase("kept", "streaming").await;
    world.until_equal("kept", "public.kept").await;
    let token: String = world.scalar("select token from tidemark.checkpoint").await;
    // Nobody knows this row: whether it goes is asked, and the walk stays open.
    world.execute("insert into public.kept (id, doc, _cluster_time) values ('x', '{}', 1)").await;
    obeyed(&world, &["resync", "kept"]);
    let held = daemon.until("kept", "is held", |s| s["resync"]["state"] == "held").await;
    let change = doc! { "$set": { "n": 100 } };
    world.collection("kept").update_one(doc! { "_id": 3 }, change).await.unwrap();
    world.until("the change is there", "select exists (select from kept where n = 100)").await;
    let shown: i64 = world.scalar("select max(_cluster_time) from public.kept").await;
    obeyed(&world, &["checkpoint", "rewind", "kept", "--to", &token]);
    // Nothing is left to sweep, for which the source would be asked anew.
    world.execute("delete from public.kept where id = 'x'").await;
    obeyed(&world, &["resync", "approve", &held["resync"]["id"].to_string()]);
    let walked = "select state = 'completed' from tidemark.resync where reason = 'requested'";
    world.until("the walk has ended", walked).await;
    world.until_equal("kept", "public.kept").await;
    daemon.until_phase("kept", "streaming").await;
    let ahead: i64 =
        world.scalar("select ahead_until from tidemark.stream where stream = 'kept'").await;
    assert!(ahead >= shown, "exact from {ahead} on, though rows are of {shown}");
    world.until("all is exact again", "select bool_and(exact) from tidemark.position").await;
}

/// The source's clock is an hour ahead from now on: entry by entry it counts by one.
async fn count_by_one(mongo: &Mongo) {
    let client = mongo.client().await.unwrap();
    let time = now() + 3_600;
    let bytes = vec![0; 20];
    let hash = Binary { subtype: BinarySubtype::Generic, bytes };
    let ahead: ClusterTime = deserialize_from_document(doc! {
        "clusterTime": Timestamp { time, increment: 1 },
        "signature": { "hash": hash, "keyId": 0_i64 },
    })
    .unwrap();
    let mut session = client.start_session().await.unwrap();
    session.advance_cluster_time(&ahead);
    let database = client.database("devstack");
    let clock = database.collection("clock");
    clock.insert_one(doc! { "is": "ahead" }).session(&mut session).await.unwrap();
}

fn now() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u32::try_from(now.as_secs()).unwrap()
}

#[tokio::test]
async fn what_is_written_after_the_first_position_is_later_than_it() {
    // A source at rest: the next entry is the test's.
    let mongo = Mongo::start(&MongoOptions::default()).unwrap();
    let postgres = &Stack::shared().postgres;
    let url = postgres.url(&postgres.database().await.unwrap());
    let config = Config { streams: two_streams(), ..Config::default() };
    let world = World::of(&mongo.uri(), &url, config).await;
    for name in ["kept", "other"] {
        world.source.create_collection(name).await.unwrap();
    }
    count_by_one(&mongo).await;
    let daemon = world.start();
    daemon.until_phase("kept", "streaming").await;
    daemon.until_phase("other", "streaming").await;
    let position: i64 = world.scalar("select cluster_time from tidemark.checkpoint").await;
    world.collection("kept").insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    world.until_equal("kept", "public.kept").await;
    let written: i64 = world.scalar("select _cluster_time from public.kept").await;
    assert!(written > position, "{written} was said to be shown at {position}, before it was");
}

/// However rarely the position of a silent group is made durable: readers need not wait for it.
#[tokio::test]
async fn a_position_that_makes_a_table_exact_is_durable_at_once() {
    let extra = "checkpoint.idle_interval = \"1h\"".to_owned();
    let world = World::with(Config { extra, streams: two_streams(), ..Config::default() }).await;
    world.source.create_collection("other").await.unwrap();
    world.collection("kept").insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    // Nothing that is followed changes; the source's time moves, so that the walk reads later than
    // the first position.
    let elsewhere = world.collection("elsewhere");
    let moving = tokio::spawn(async move {
        loop {
            elsewhere.insert_one(doc! {}).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    });
    let daemon = world.start();
    daemon.until_phase("kept", "streaming").await;
    world.until("all is exact", "select bool_and(exact) from tidemark.position").await;
    moving.abort();
}
