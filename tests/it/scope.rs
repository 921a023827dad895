//! A change stream is opened on the database: what happens to other collections of it is no
//! stream's, and what happens to the database is.

use mongodb::bson::{Document, doc};

use crate::support::{Config, Daemon, World, stream};

const DOCTORS: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

async fn world() -> World {
    let streams = stream("doctor", DOCTORS, "");
    World::with(Config { streams, ..Config::default() }).await
}

async fn fill(world: &World, round: i32) {
    let documents: Vec<Document> =
        (0..40).map(|n| doc! { "_id": format!("d{n:02}"), "round": round }).collect();
    world.collection(DOCTORS).insert_many(documents).await.unwrap();
}

async fn followed(world: &World) -> Daemon {
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon
}

async fn reasons(world: &World) -> Vec<String> {
    world.column("select reason from tidemark.resync order by id").await
}

#[tokio::test]
async fn what_happens_to_other_collections_of_the_database_is_nothing_to_the_stream() {
    let world = world().await;
    fill(&world, 0).await;
    let daemon = followed(&world).await;
    let admin = world.source.client().database("admin");
    let full = |name: &str| format!("{}.{name}", world.name);
    for round in 0..3 {
        let others = world.collection("others");
        others.insert_one(doc! { "_id": "d01", "round": round }).await.unwrap();
        others.aggregate([doc! { "$out": "copied" }]).await.unwrap();
        let rename = doc! { "renameCollection": full("others"), "to": full("renamed") };
        admin.run_command(rename).await.unwrap();
        for name in ["renamed", "copied"] {
            world.collection(name).drop().await.unwrap();
        }
        let one = doc! { "_id": "d01" };
        let set = doc! { "$set": { "round": round } };
        world.collection(DOCTORS).update_one(one, set).await.unwrap();
        world.until_equal(DOCTORS, TABLE).await;
    }
    assert_eq!(reasons(&world).await, ["first_snapshot"]);
    let phases = daemon.phases("doctor");
    assert!(!phases.contains(&"halted".to_owned()), "{phases:?}");
}

#[tokio::test]
async fn of_a_transaction_over_many_collections_the_stream_takes_what_is_its_own() {
    let world = world().await;
    fill(&world, 0).await;
    world.collection("others").insert_one(doc! { "_id": "d00" }).await.unwrap();
    let daemon = followed(&world).await;
    let mut session = world.source.client().start_session().await.unwrap();
    for round in 0..3 {
        session.start_transaction().await.unwrap();
        for n in 0..30 {
            for name in ["others", DOCTORS] {
                let document = doc! { "_id": format!("t{round}-{n}"), "of": name };
                world.collection(name).insert_one(document).session(&mut session).await.unwrap();
            }
        }
        session.commit_transaction().await.unwrap();
        assert_eq!(world.until_equal(DOCTORS, TABLE).await, 70 + 30 * round);
    }
    assert_eq!(reasons(&world).await, ["first_snapshot"]);
    daemon.until_phase("doctor", "streaming").await;
}

#[tokio::test]
async fn a_database_that_is_dropped_and_made_again_is_repaired_whether_it_was_seen_or_not() {
    let world = world().await;
    fill(&world, 0).await;
    let mut daemon = followed(&world).await;
    world.source.drop().await.unwrap();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_dropped", "{halted}");
    assert_eq!(world.scalar::<i64>("select count(*) from public.doctor").await, 40);
    fill(&world, 1).await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    world.source.drop().await.unwrap();
    fill(&world, 2).await;
    followed(&world).await;
    let recreated = "collection_recreated";
    assert_eq!(reasons(&world).await, ["first_snapshot", recreated, recreated]);
}

#[tokio::test]
async fn a_collection_that_is_yet_to_be_made_is_waited_for_though_its_database_is_dropped() {
    let world = world().await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    for round in 0..2 {
        world.collection("others").insert_one(doc! { "_id": round }).await.unwrap();
        world.source.drop().await.unwrap();
    }
    fill(&world, 0).await;
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 40);
    daemon.until_phase("doctor", "streaming").await;
    world.collection(DOCTORS).delete_one(doc! { "_id": "d07" }).await.unwrap();
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 39);
}

#[tokio::test]
async fn names_of_collections_are_taken_as_they_are() {
    const ODD: [&str; 4] = ["a.b", "we[ir]d+", "^ü|.*", "quo\"te"];
    let names = ODD.iter().enumerate();
    let streams: String = names.map(|(n, name)| stream(&format!("odd{n}"), name, "")).collect();
    let world = World::with(Config { streams, ..Config::default() }).await;
    // One that a pattern in their place would match.
    world.collection("a-b").insert_one(doc! { "_id": "other" }).await.unwrap();
    let daemon = world.start();
    for n in 0..ODD.len() {
        daemon.until_phase(&format!("odd{n}"), "streaming").await;
    }
    for (n, name) in ODD.iter().enumerate() {
        for id in 0..3 {
            world.collection(name).insert_one(doc! { "_id": id }).await.unwrap();
        }
        world.collection("a-b").insert_one(doc! { "_id": format!("other{n}") }).await.unwrap();
        world.collection(name).delete_one(doc! { "_id": 1 }).await.unwrap();
        assert_eq!(world.until_equal(name, &format!("public.odd{n}")).await, 2, "{name}");
    }
}
