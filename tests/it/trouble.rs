//! The world misbehaves: wires are cut, replies lost, servers restarted, collections dropped, codes
//! answered.

use std::time::{Duration, Instant};

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use devstack::{Mode, Mongo, MongoOptions, Postgres, PostgresOptions, Proxy, Stack};
use mongodb::bson::doc;

use crate::killing::{assert_audit, audit};
use crate::support::{Config, World, eventually, stream};

async fn through(mongo_port: u16, postgres_port: u16, postgres: &Postgres) -> World {
    let database = postgres.database().await.unwrap();
    let uri = format!(
        "mongodb://127.0.0.1:{mongo_port}/?directConnection=true&serverSelectionTimeoutMS=2000"
    );
    World::of(
        &uri,
        &format!("postgres://tidemark@127.0.0.1:{postgres_port}/{database}"),
        Config::default(),
    )
    .await
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_out_and_not_repeated() {
    let stack = Stack::shared();
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let world = through(stack.mongo.port(), proxy.port(), &stack.postgres).await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world.execute(&audit()).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let mut data = Revalidation::new(world.source.clone(), 41);
    // Others commit, too: until it was the group's own.
    let is_seen = || {
        let log = daemon.log();
        log.contains("commit in doubt resolved") && log.contains("\"landed\":true")
    };
    let begun = Instant::now();
    for round in 0.. {
        if round >= 5 && is_seen() {
            break;
        }
        let is_early = begun.elapsed() < Duration::from_secs(240);
        assert!(is_early, "no commit had landed, and was seen to have\n{}", daemon.log());
        let swallowed = proxy.swallowed();
        proxy.swallow_reply_to(b"COMMIT");
        while proxy.swallowed() == swallowed {
            data.work(50).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    assert_audit(&world).await;
    let twice = "select count(*) from (select id, after from audit where what = 'position' and \
                 after <> before group by 1, 2 having count(*) > 1) d";
    assert_eq!(world.scalar::<i64>(twice).await, 0, "no position was committed twice");
}

#[tokio::test]
async fn wires_cut_and_stalled_on_both_sides_lose_nothing() {
    let stack = Stack::shared();
    let to_mongo = Proxy::to(stack.mongo.port()).unwrap();
    let to_postgres = Proxy::to(stack.postgres.port()).unwrap();
    let world = through(to_mongo.port(), to_postgres.port(), &stack.postgres).await;
    // The test itself works on the source directly.
    let direct = stack.mongo.client().await.unwrap().database(&world.name);
    let mut data = Revalidation::new(direct, 42);
    data.load(500, 200).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    for round in 0..12 {
        data.work(150).await.unwrap();
        match round % 4 {
            0 => to_mongo.cut(),
            1 => to_postgres.cut(),
            2 => {
                to_postgres.set(Mode::Refuse);
                to_postgres.cut();
                daemon.until("doctor", "notices", |s| s["retrying"].as_u64() > Some(0)).await;
                assert_eq!(daemon.get("/livez").await.0, 200);
                to_postgres.set(Mode::Pass);
            }
            _ => {
                to_mongo.set(Mode::Stall);
                tokio::time::sleep(Duration::from_millis(500)).await;
                to_mongo.set(Mode::Pass);
                to_mongo.cut();
            }
        }
    }
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    let calm = |s: &serde_json::Value| s["retrying"] == 0 && s["phase"] == "streaming";
    daemon.until("doctor", "calm again", calm).await;
}

#[tokio::test]
async fn postgres_killed_and_restarted_is_waited_for() {
    let mut postgres = Postgres::start(&PostgresOptions::durable()).unwrap();
    let database = postgres.database().await.unwrap();
    let world =
        World::of(&Stack::shared().mongo.uri(), &postgres.url(&database), Config::default()).await;
    let mut data = Revalidation::new(world.source.clone(), 43);
    data.load(500, 200).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    postgres.kill().unwrap();
    data.work(500).await.unwrap();
    daemon.until("doctor", "keeps trying", |s| s["retrying"].as_u64() > Some(1)).await;
    daemon.until_readiness(503).await;
    assert_eq!(daemon.get("/livez").await.0, 200);
    postgres.restart().unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    daemon.until_readiness(200).await;
    // Told to stop while Postgres is away, it still ends in time.
    postgres.kill().unwrap();
    data.work(100).await.unwrap();
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0), "{}", daemon.log());
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test]
async fn an_election_is_followed_through() {
    let mut mongo = Mongo::start(&MongoOptions {
        members: 3,
        cache_gigabytes: 0.25,
        ..MongoOptions::default()
    })
    .unwrap();
    let database = Stack::shared().postgres.database().await.unwrap();
    let world =
        World::of(&mongo.uri(), &Stack::shared().postgres.url(&database), Config::default()).await;
    let mut data = Revalidation::new(world.source.clone(), 44);
    data.load(500, 200).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    // The first writes after an election may fail; what was written is what counts.
    let mut work = async || {
        let (mut done, begun) = (0, Instant::now());
        while done < 50 {
            done += i32::from(data.work(10).await.is_ok());
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "hardly anything is written: {done}"
            );
        }
    };
    mongo.step_down().await.unwrap();
    work().await;
    mongo.kill(0).unwrap();
    mongo.wait_for_primary().await.unwrap();
    work().await;
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    daemon.until_phase("doctor", "streaming").await;
}

#[tokio::test]
async fn a_dropped_or_renamed_collection_halts_its_stream_and_leaves_the_table() {
    for (what, command) in [
        ("drop", doc! { "drop": DOCTORS }),
        ("rename", doc! {}),
        ("dropDatabase", doc! { "dropDatabase": 1 }),
    ] {
        let world = World::with(Config { apart: true, ..Config::default() }).await;
        let doctors = world.collection(DOCTORS);
        doctors.insert_one(doc! { "_id": "1000001", "doctorStatus": "DRAFT" }).await.unwrap();
        let daemon = world.start();
        daemon.until_phase("doctor", "streaming").await;
        daemon.until_phase("recommendation", "streaming").await;
        doctors.insert_one(doc! { "_id": "1000002", "doctorStatus": "DRAFT" }).await.unwrap();
        if what == "rename" {
            let (from, to) =
                (format!("{}.{DOCTORS}", world.name), format!("{}.elsewhere", world.name));
            let admin = world.source.client().database("admin");
            admin.run_command(doc! { "renameCollection": from, "to": to }).await.unwrap();
        } else {
            world.source.run_command(command).await.unwrap();
        }
        let stream = daemon.until_phase("doctor", "halted").await;
        assert_eq!(stream["halt_code"], "source_dropped", "{what}");
        assert!(stream["reason"].as_str().unwrap().contains(DOCTORS));
        assert_eq!(
            world.scalar::<i64>("select count(*) from public.doctor").await,
            2,
            "{what}: what came before is there"
        );
        let critical = async || daemon.status().await["verdict"] == "critical";
        eventually("it is said to be critical", critical).await;
        if what != "dropDatabase" {
            daemon.until_phase("recommendation", "streaming").await;
            let phases = daemon.phases("recommendation");
            assert!(!phases.contains(&"halted".to_owned()), "the other never left: {phases:?}");
        }
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_stored_is_set_aside_whole_and_the_rest_goes_on() {
    let world =
        World::with(Config { streams: stream("odd", "odd", ""), ..Config::default() }).await;
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    let long: String =
        (0..6_000).map(|n| char::from(b'a' + u8::try_from(n * 7919 % 26).unwrap())).collect();
    let mut documents: Vec<_> = (0..500).map(|n| doc! { "_id": n, "name": "Mary Smith" }).collect();
    // Longer than an index entry may be, and not to be compressed into one.
    let random: String = std::iter::repeat_with(fastrand::alphanumeric).take(9_000).collect();
    documents.insert(250, doc! { "_id": &random, "why": &long });
    world.collection("odd").insert_many(&documents).await.unwrap();
    world.until("the good ones are there", "select count(*) = 500 from public.odd").await;
    world.until("the other is set aside", "select count(*) = 1 from tidemark.dead_letter").await;
    let (document_id, operation, event): (String, String, Vec<u8>) =
        sqlx::query_as("select document_id, operation, event from tidemark.dead_letter")
            .fetch_one(&mut world.pg().await)
            .await
            .unwrap();
    assert_eq!((document_id, operation.as_str()), (random, "insert"));
    let event: mongodb::bson::Document = mongodb::bson::deserialize_from_slice(&event).unwrap();
    assert_eq!(event.get_document("fullDocument").unwrap(), &documents[250]);
    let stream = daemon.until("odd", "told", |s| s["dead_letters"] == 1).await;
    assert_eq!(
        stream["events_received"].as_u64().unwrap(),
        stream["events_applied"].as_u64().unwrap() + 1
    );
    assert_eq!(
        daemon.metric("tidemark_dead_letters_total{code=\"refused\",stream=\"odd\"}").await,
        1.0
    );
    assert!(!daemon.log().contains("Mary"), "no document content in the log");
}

#[tokio::test]
async fn more_refusals_than_an_accident_halt_the_stream_and_skip_nothing() {
    let extra = "record.dead_letter_count_min = 10\nrecord.dead_letter_fraction_max = 0.0".into();
    let world =
        World::with(Config { extra, streams: stream("odd", "odd", ""), ..Config::default() }).await;
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    world
        .execute("alter table public.odd add constraint small check ((doc ->> 'n')::int < 50)")
        .await;
    let documents: Vec<_> = (0..100).map(|n| doc! { "_id": n, "n": n }).collect();
    world.collection("odd").insert_many(documents).await.unwrap();
    let stream = daemon.until_phase("odd", "halted").await;
    assert_eq!(stream["halt_code"], "dead_letter_rate");
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.dead_letter").await, 0);
    world.execute("alter table public.odd drop constraint small").await;
    assert_eq!(world.until_equal("odd", "public.odd").await, 100);
}

#[tokio::test]
async fn a_column_dropped_under_it_halts_and_goes_on_once_it_is_back() {
    let world = World::with(Config { apart: true, ..Config::default() }).await;
    let mut data = Revalidation::new(world.source.clone(), 45);
    data.load(50, 50).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.execute("alter table public.doctor drop column last_name").await;
    data.work(50).await.unwrap();
    let stream = daemon.until_phase("doctor", "halted").await;
    assert_eq!(stream["halt_code"], "target_schema_mismatch");
    assert!(stream["reason"].as_str().unwrap().contains("last_name"), "{stream:#}");
    daemon.until_phase("recommendation", "streaming").await;
    assert!(world.command(&["migrate"]).status().unwrap().success());
    world.until_equal(DOCTORS, "public.doctor").await;
}
