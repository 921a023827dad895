//! A position is bound to its cluster, its service and its environment: another one's tables are
//! never written, and a source that is another one, or was taken back in time, is followed only
//! once a person says so.

use devstack::{Mongo, MongoOptions, Stack};
use mongodb::bson::{Document, doc};

use crate::alerting::until;
use crate::support::{Config, Daemon, World, run, state, stream};

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

#[tokio::test]
async fn another_database_in_the_configuration_is_told_by_its_key_before_and_once_it_is_led() {
    let world = World::with(config("")).await;
    fill(&world, 0, 50).await;
    let mut daemon = world.start();
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    let before = rows(&world).await;

    let name = format!("{}_b", world.name);
    let extra = format!("source.database = {name:?}\nresync.automatic = false");
    let mut other = world.beside(&config(&extra));
    other.source = world.source.client().database(&name);
    fill(&other, 40, 90).await;
    let said = format!("is {name} now, and was {}, which the table is of", world.name);
    let (_, told) = run(&other, &["check"]);
    assert!(told.contains(&said) && told.contains("source.database"), "{told}");
    assert!(told.contains("set the database back"), "{told}");

    let daemon = other.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    let reason = halted["reason"].as_str().unwrap();
    assert!(reason.contains(&said) && reason.contains("source.database"), "{reason}");
    assert!(reason.contains("set it back") && reason.contains("tidemark resync"), "{reason}");
    assert_eq!(halted["halt_code"], "history_lost", "{halted}");
    assert_eq!(rows(&world).await, before, "nothing was written");

    let (code, told) = run(&other, &["resync", "doctor", "--reason", "meant", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(other.until_equal(DOCTORS, TABLE).await, 50);
    let (_, told) = run(&other, &["check"]);
    assert!(!told.contains("which the table is of"), "{told}");
    other.source.drop().await.unwrap();
}

/// Of two groups of one stream each the first has been adopted; the second's comes into it.
async fn comes_alone(world: &World, daemon: Daemon, config: &Config) {
    let mut daemon = daemon;
    for name in ["one", "two"] {
        let halted = daemon.until_phase(name, "halted").await;
        assert_eq!(halted["halt_code"], "source_foreign", "{halted}");
    }
    let adopt = |name| run(world, &["source", "adopt", name, "--reason", "meant", "--execute"]);
    let (code, told) = adopt("one");
    assert_eq!(code, Some(0), "{told}");
    daemon.until_phase("one", "streaming").await;
    world.until_equal("one", "public.one").await;
    assert_eq!(daemon.stop().0, Some(0));
    let before = world.column("select id || doc::text || xmin from two order by id").await;

    world.configure(config);
    let mut daemon = world.start();
    let parked = daemon.until_phase("two", "parked").await;
    assert_eq!(parked["halt_code"], "source_foreign", "{parked}");
    let (code, told) = run(world, &["resync", "two", "--reason", "x", "--execute"]);
    assert!(code == Some(1) && told.contains("source adopt"), "{told}");
    world.collection("one").insert_one(doc! { "_id": "meanwhile" }).await.unwrap();
    world.until_equal("one", "public.one").await;
    daemon.until_phase("one", "streaming").await;
    assert!(!daemon.phases("one").contains(&"halted".to_owned()), "{}", daemon.log());
    // What is looked at again is as it was.
    let looked = daemon.log().matches("still parked").count();
    until("it is looked at again", world, || daemon.log().matches("still parked").count() > looked)
        .await;
    let now = world.column("select id || doc::text || xmin from two order by id").await;
    assert_eq!(now, before, "nothing was written");

    let (code, told) = adopt("two");
    assert_eq!(code, Some(0), "{told}");
    for _ in 0..2 {
        for name in ["one", "two"] {
            daemon.until_phase(name, "streaming").await;
            world.until_equal(name, &format!("public.{name}")).await;
        }
        daemon.stop();
        daemon = world.start();
    }
    let walks = "select count(*) from tidemark.resync where reason = 'source_adopted'";
    assert_eq!(world.scalar::<i64>(walks).await, 2);
    assert!(!daemon.phases("one").contains(&"halted".to_owned()), "{}", daemon.log());
}

fn two_groups(is_apart: bool, uri: Option<&str>) -> Config {
    let group = if is_apart { "group = \"other\"" } else { "" };
    let uri = uri.map(|uri| format!("source.uri = {uri:?}\n")).unwrap_or_default();
    Config {
        extra: format!("{uri}log.filter = \"info,tidemark=debug\""),
        streams: stream("one", "one", "") + &stream("two", "two", group),
        ..Config::default()
    }
}

async fn both(world: &World, from: i32, to: i32) {
    for name in ["one", "two"] {
        let documents = (from..to).map(|n| doc! { "_id": n, "n": from });
        world.collection(name).insert_many(documents).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_of_before_the_source_was_taken_back_stops_no_group_that_it_comes_into() {
    let mut mongo = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let database = Stack::shared().postgres.database().await.unwrap();
    let url = Stack::shared().postgres.url(&database);
    let world = World::of(&mongo.uri(), &url, two_groups(true, None)).await;
    both(&world, 0, 20).await;
    let mut daemon = world.start();
    for name in ["one", "two"] {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
    daemon.stop();
    mongo.kill(0).unwrap();
    let backup = mongo.copy(0).unwrap();
    mongo.restart(0).unwrap();
    mongo.wait_for_primary().await.unwrap();
    let mut daemon = world.start();
    both(&world, 20, 40).await;
    for name in ["one", "two"] {
        world.until_equal(name, &format!("public.{name}")).await;
        daemon.until(name, "is idle", |s| s["lag_seconds"] == 0.0).await;
    }
    daemon.stop();
    mongo.kill(0).unwrap();
    mongo.restore(0, &backup).unwrap();
    mongo.wait_for_primary().await.unwrap();
    both(&world, 100, 110).await;
    let daemon = world.start();
    comes_alone(&world, daemon, &two_groups(false, None)).await;
}

#[tokio::test]
async fn a_stream_of_another_cluster_stops_no_group_that_it_comes_into() {
    let world = World::with(two_groups(true, None)).await;
    both(&world, 0, 20).await;
    let mut daemon = world.start();
    for name in ["one", "two"] {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
    daemon.stop();
    let staging = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let uri = staging.uri();
    let mut other = world.beside(&two_groups(true, Some(&uri)));
    other.source = staging.client().await.unwrap().database(&world.name);
    both(&other, 10, 40).await;
    let daemon = other.start();
    comes_alone(&other, daemon, &two_groups(false, Some(&uri))).await;
}
