//! A position is bound to its cluster, its service and its environment: another one's tables are
//! never written, and a source that is another one, or was taken back in time, is followed only
//! once a person says so.

use devstack::{Mongo, MongoOptions, Stack};
use mongodb::bson::{Document, doc};

use crate::support::{Config, World, run, state, stream};

const DOCTORS: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

async fn fill(world: &World, from: i32, to: i32) {
    let documents: Vec<Document> =
        (from..to).map(|n| doc! { "_id": format!("d{n}"), "n": n }).collect();
    world.collection(DOCTORS).insert_many(documents).await.unwrap();
}

fn config(extra: &str) -> Config {
    Config { apart: true, extra: extra.to_owned(), streams: stream("doctor", DOCTORS, "") }
}

async fn rows(world: &World) -> Vec<String> {
    world
        .column("select id || doc::text || _cluster_time || xmin from public.doctor order by id")
        .await
}

#[tokio::test]
async fn nothing_of_another_cluster_is_written_until_a_person_says_that_it_is_meant() {
    let world = World::with(config("resync.delete_count_min = 1000")).await;
    fill(&world, 0, 200).await;
    let mut daemon = world.start();
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    // The clock of this cluster is some seconds ahead of the other's.
    let ahead = "update public.doctor set _cluster_time = _cluster_time + (30::bigint << 32)";
    world.execute(ahead).await;
    let before = rows(&world).await;

    let staging = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let extra = format!("source.uri = {:?}\nresync.delete_count_min = 1000", staging.uri());
    let mut other = world.beside(&config(&extra));
    other.source = staging.client().await.unwrap().database(&world.name);
    fill(&other, 170, 230).await;
    let daemon = other.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_foreign", "{halted}");
    world
        .until(
            "it is told",
            "select count(*) = 1 from tidemark.incident where code = 'source_foreign'",
        )
        .await;
    // A resync is no way around it.
    let (code, told) = run(&other, &["resync", "doctor", "--reason", "x", "--execute"]);
    assert!(code == Some(1) && told.contains("source adopt"), "{told}");
    assert_eq!(rows(&world).await, before, "nothing was written");

    let (code, told) = run(&other, &["source", "adopt", "doctor", "--reason", "moved"]);
    assert!(code == Some(0) && told.contains("bound to") && told.contains("--execute"), "{told}");
    assert_eq!(rows(&world).await, before, "a preview changes nothing");
    let (code, told) =
        run(&other, &["source", "adopt", "doctor", "--reason", "moved", "--execute"]);
    assert!(code == Some(0) && told.contains("begun"), "{told}");
    assert_eq!(other.until_equal(DOCTORS, TABLE).await, 60);
    daemon.until_phase("doctor", "streaming").await;
    let reason: String =
        world.scalar("select reason from tidemark.resync order by id desc limit 1").await;
    assert_eq!(reason, "source_adopted");
    let resolved =
        "select resolved_at is not null from tidemark.incident where code = 'source_foreign'";
    world.until("the incident is over", resolved).await;
    other.collection(DOCTORS).insert_one(doc! { "_id": "later" }).await.unwrap();
    other.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test]
async fn another_environments_daemon_gets_no_lease_and_alters_nothing() {
    let world = World::with(config("")).await;
    fill(&world, 0, 20).await;
    let mut daemon = world.start();
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    let epoch: i64 = world.scalar(&state::position("epoch", "doctor")).await;

    let column = "[[stream.column]]\nname = \"n\"\nfield = \"n\"\ntype = \"integer\"";
    let streams = stream("doctor", DOCTORS, column);
    let staging = world.beside(&Config {
        apart: true,
        extra: "environment = \"staging\"".to_owned(),
        streams,
    });
    let refused = "belongs to service tidemark in environment development";
    let (code, told) = run(&staging, &["migrate"]);
    assert!(code == Some(1) && told.contains(refused), "{told}");
    let (code, told) = run(&staging, &["check"]);
    assert!(code == Some(1) && told.contains(refused), "{told}");
    let (code, told) = run(&staging, &["resync", "doctor", "--reason", "x", "--execute"]);
    assert!(code == Some(1) && told.contains(refused), "{told}");
    let intruder = staging.start();
    let halted = intruder.until_phase("doctor", "halted").await;
    assert!(
        halted["halt_code"] == "source_foreign"
            && halted["reason"].as_str().unwrap().contains(refused),
        "{halted}"
    );
    assert_eq!(daemon.stop().0, Some(0));
    // Nobody leads it now: it is still not the intruder's.
    let free =
        format!("select expires_at < now() from tidemark.lease where {}", state::of("doctor"));
    world.until("the lease is free", &free).await;
    fill(&world, 20, 40).await;
    let tries = intruder.stream("doctor").await["failures"].as_u64().unwrap() + 2;
    intruder
        .until("doctor", "was looked at again", |s| s["failures"].as_u64().unwrap() >= tries)
        .await;
    assert_eq!(world.scalar::<i64>(&state::position("epoch", "doctor")).await, epoch);
    assert_eq!(world.scalar::<i64>("select count(*) from public.doctor").await, 20);
    let columns = "select count(*) from information_schema.columns where table_name = 'doctor' and \
                   column_name = 'n'";
    assert_eq!(world.scalar::<i64>(columns).await, 0);

    // Tables may change hands, if a person says so.
    let (code, told) =
        run(&staging, &["source", "adopt", "doctor", "--reason", "ours now", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    world.until_equal(DOCTORS, TABLE).await;
    intruder.until_phase("doctor", "streaming").await;
    assert_eq!(world.scalar::<i64>(columns).await, 1);
    let owner: String = world.scalar("select environment from tidemark.stream").await;
    assert_eq!(owner, "staging");
}

#[tokio::test]
async fn a_source_taken_back_to_an_earlier_moment_is_noticed_and_adopted() {
    let mut mongo = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let database = Stack::shared().postgres.database().await.unwrap();
    let world = World::of(&mongo.uri(), &Stack::shared().postgres.url(&database), config("")).await;
    fill(&world, 0, 50).await;
    let mut daemon = world.start();
    world.until_equal(DOCTORS, TABLE).await;
    // A restart without a loss is no such thing, idle or not.
    mongo.kill(0).unwrap();
    mongo.restart(0).unwrap();
    mongo.wait_for_primary().await.unwrap();
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    mongo.kill(0).unwrap();
    let backup = mongo.copy(0).unwrap();
    mongo.restart(0).unwrap();
    mongo.wait_for_primary().await.unwrap();
    let mut daemon = world.start();
    fill(&world, 50, 80).await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon
        .until("doctor", "is idle", |s| s["lag_seconds"] == 0.0 && s["phase"] == "streaming")
        .await;
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.resync").await, 1);
    daemon.stop();

    mongo.kill(0).unwrap();
    mongo.restore(0, &backup).unwrap();
    mongo.wait_for_primary().await.unwrap();
    fill(&world, 100, 110).await;
    let before = rows(&world).await;
    let mut daemon = world.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_foreign", "{halted}");
    assert!(halted["reason"].as_str().unwrap().contains("taken back"), "{halted}");
    assert_eq!(rows(&world).await, before, "nothing was written");
    let (code, told) =
        run(&world, &["source", "adopt", "doctor", "--reason", "restored", "--execute"]);
    assert!(code == Some(0) && told.contains("begun"), "{told}");
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 60);
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test]
async fn a_source_taken_back_under_a_running_daemon_is_noticed_when_it_answers_again() {
    let mut mongo = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let database = Stack::shared().postgres.database().await.unwrap();
    let world = World::of(&mongo.uri(), &Stack::shared().postgres.url(&database), config("")).await;
    fill(&world, 0, 20).await;
    mongo.kill(0).unwrap();
    let backup = mongo.copy(0).unwrap();
    mongo.restart(0).unwrap();
    mongo.wait_for_primary().await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    fill(&world, 20, 50).await;
    world.until_equal(DOCTORS, TABLE).await;
    let before = rows(&world).await;
    mongo.kill(0).unwrap();
    mongo.restore(0, &backup).unwrap();
    mongo.wait_for_primary().await.unwrap();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_foreign", "{halted}");
    assert_eq!(rows(&world).await, before, "nothing was written");
    run(&world, &["source", "adopt", "doctor", "--reason", "restored", "--execute"]);
    assert_eq!(world.until_equal(DOCTORS, TABLE).await, 20);
}

#[tokio::test]
async fn a_retired_position_of_other_options_or_another_collection_is_not_gone_back_to() {
    let world = World::with(config("resync.automatic_per_day_max = 100")).await;
    fill(&world, 0, 20).await;
    let mut daemon = world.start();
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    world.collection(DOCTORS).drop().await.unwrap();
    fill(&world, 0, 30).await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    let heartbeat =
        "source.heartbeat_collection = \"tidemarkHeartbeat\"\nsource.heartbeat_interval = \"1s\"";
    let other = world.beside(&config(heartbeat));
    let mut daemon = other.start();
    daemon.until_phase("doctor", "streaming").await;
    other.until_equal(DOCTORS, TABLE).await;
    let ids = world.column("select id::text from tidemark.checkpoint_history order by id").await;
    assert_eq!(ids.len(), 2);
    for (id, why) in [(&ids[1], "under other options"), (&ids[0], "under other options")] {
        let (code, told) = run(
            &other,
            &["checkpoint", "rewind", "doctor", "--to", id, "--reason", "x", "--execute"],
        );
        assert!(code == Some(1) && told.contains(why), "{told}");
    }
    daemon.stop();
    let (code, told) = run(
        &world,
        &["checkpoint", "rewind", "doctor", "--to", &ids[0], "--reason", "x", "--execute"],
    );
    // The position is of the database: what befell the collection since is met again.
    assert_eq!(code, Some(0), "{told}");
    let _daemon = world.start();
    world.until_equal(DOCTORS, TABLE).await;
}
