//! The main job against the stand-in for Amazon DocumentDB: other tokens, other codes, no operation
//! times, no oplog.

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use devstack::{DocumentDb, Engine, Mongo, MongoOptions, Stack};
use mongodb::bson::doc;

use crate::support::{Config, World, run};

/// A mongod of its own with a small oplog behind a stand-in, and a world over it.
async fn world(engine: Engine, extra: &str) -> (Mongo, DocumentDb, World) {
    let mongo = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let documentdb = DocumentDb::before(mongo.port(), engine).unwrap();
    let database = Stack::shared().postgres.database().await.unwrap();
    let config = Config { extra: extra.to_owned(), ..Config::default() };
    let world =
        World::of(&documentdb.uri(), &Stack::shared().postgres.url(&database), config).await;
    (mongo, documentdb, world)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_working_day_is_followed_through_a_restart_and_check_passes() {
    let (_mongo, _documentdb, world) = world(Engine::default(), "").await;
    let mut data = Revalidation::new(world.source.clone(), 3);
    data.load(600, 400).await.unwrap();
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    let (code, told) = run(&world, &["check"]);
    assert!(
        code == Some(0)
            && told.contains("from source.history_retention; the oplog may not be read"),
        "{told}"
    );
    let daemon = world.start();
    data.work(1_500).await.unwrap();
    daemon.until_phase("doctor", "streaming").await;
    daemon.kill();
    data.work(1_500).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    assert_eq!(
        world.scalar::<i64>("select count(*) from tidemark.resync").await,
        2,
        "only the first snapshots walked"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_rollover_is_repaired_and_reported() {
    let (mongo, _documentdb, world) = world(Engine::default(), "").await;
    let mut data = Revalidation::new(world.source.clone(), 4);
    data.load(2_000, 10).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let ids = |range: std::ops::Range<usize>| {
        range.map(devstack::revalidation::gmc_number).collect::<Vec<_>>()
    };
    let doctors = world.collection(DOCTORS);
    // Changed by the live stream a moment before it goes blind: the walk must win over that, too.
    let some = doc! { "_id": { "$in": ids(0..200) } };
    doctors.update_many(some, doc! { "$set": { "doctorStatus": "SEEN" } }).await.unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    daemon.stop();
    doctors
        .update_many(
            doc! { "_id": { "$in": ids(0..50) } },
            doc! { "$set": { "doctorStatus": "MISSED" } },
        )
        .await
        .unwrap();
    doctors.delete_many(doc! { "_id": { "$in": ids(100..130) } }).await.unwrap();
    mongo.roll_oplog(2).await.unwrap();
    let daemon = world.start();
    world
        .until(
            "the resync is completed",
            "select exists (select from tidemark.gap_report where stream = 'doctor')",
        )
        .await;
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, "public.doctor").await;
    let gap: (String, i64, i64) = world
        .row(
            "select r.reason, g.rows_changed, g.rows_deleted from tidemark.gap_report g
             join tidemark.resync r on r.id = g.resync_id where g.stream = 'doctor'",
        )
        .await;
    assert_eq!(gap, ("history_lost".to_owned(), 50, 30));
}
