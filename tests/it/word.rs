//! Guarantee 9: what is said is so. A remedy that is named works, a number counts what it says, a
//! pause is no halt.

use std::time::Duration;

use devstack::{Fakes, Proxy, Stack};
use mongodb::bson::doc;

use crate::alerting::{DOCTORS, TABLE, is_resolved, seed, until, world};
use crate::support::{Config, Daemon, World, eventually, run, state, stream};

/// Follows until the first snapshot is done, then stops.
async fn followed(world: &World) {
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    assert_eq!(daemon.stop().0, Some(0));
}

fn doctor(n: usize) -> mongodb::bson::Document {
    devstack::revalidation::doctor(&mut fastrand::Rng::with_seed(13), n)
}

#[tokio::test]
async fn a_target_that_is_away_for_a_moment_while_a_command_is_made_room_for_is_no_halt() {
    let stack = Stack::shared();
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let database = stack.postgres.database().await.unwrap();
    let url = format!("postgres://tidemark@127.0.0.1:{}/{database}", proxy.port());
    // An idle position is always waiting to be committed.
    let extra = "checkpoint.idle_interval = \"1h\"\n".to_owned();
    let config = Config { apart: true, extra, streams: stream("doctor", DOCTORS, "") };
    let world = World::of(&stack.mongo.uri(), &url, config).await;
    seed(&world, 20).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    let polled = daemon.stream("doctor").await["last_poll_at"].clone();
    daemon.until("doctor", "is idle", |s| s["last_poll_at"] != polled).await;
    proxy.swallow_reply_to(b"COMMIT");
    let request = "insert into tidemark.command (verb, stream, actor, reason) \
                   values ('dead_letter_discard', 'doctor', 'test', 'to be let in')";
    world.execute(request).await;
    world.until("the command is obeyed", "select done_at is not null from tidemark.command").await;
    assert_eq!(proxy.swallowed(), 1, "the idle position's commit was cut");
    daemon.until_phase("doctor", "streaming").await;
    assert!(!daemon.log().contains(" halted: "), "{}", daemon.log());
    world.collection(DOCTORS).insert_one(doctor(21)).await.unwrap();
    world.until_equal(DOCTORS, TABLE).await;
}

async fn until_reported(world: &World, daemon: &Daemon) {
    let report = "select exists (select from tidemark.gap_report)";
    world.until("the resync is completed", report).await;
    daemon.until_phase("doctor", "streaming").await;
}

#[tokio::test]
async fn rows_inserted_beside_one_that_is_refused_are_reported_as_inserted() {
    let world = World::with(Config { apart: true, ..Config::default() }).await;
    seed(&world, 200).await;
    followed(&world).await;
    let new: Vec<_> = (300..350).map(doctor).collect();
    world.collection(DOCTORS).insert_many(new).await.unwrap();
    world.execute("alter table doctor add constraint odd check (id <> '1000310') not valid").await;
    state::lose_position(&world, "doctor").await;
    let daemon = world.start();
    until_reported(&world, &daemon).await;
    let gap = "select rows_inserted, rows_changed, rows_deleted from tidemark.gap_report";
    assert_eq!(world.row::<(i64, i64, i64)>(gap).await, (49, 0, 0));
    let sampled = "select cardinality(sample_ids) from tidemark.gap_report";
    assert!(world.scalar::<i32>(sampled).await > 0, "ids of some of them are kept");
    assert_eq!(world.compare(DOCTORS, TABLE).await.missing, ["1000310"]);
}

#[tokio::test]
async fn the_samples_of_a_gap_report_are_of_rows_that_were_deleted() {
    let world = World::with(Config { apart: true, ..Config::default() }).await;
    seed(&world, 200).await;
    followed(&world).await;
    let gone = doc! { "_id": { "$in": ["1000007", "1000008"] } };
    world.collection(DOCTORS).delete_many(gone).await.unwrap();
    let keep = "create function keep() returns trigger language plpgsql as 'begin \
                if old.id = ''1000007'' then return null; end if; return old; end'; \
                create trigger keep before delete on doctor for each row execute function keep()";
    world.execute(keep).await;
    state::lose_position(&world, "doctor").await;
    let daemon = world.start();
    until_reported(&world, &daemon).await;
    let gap = "select rows_deleted, sample_ids from tidemark.gap_report";
    assert_eq!(world.row::<(i64, Vec<String>)>(gap).await, (1, vec!["1000008".to_owned()]));
    assert_eq!(world.compare(DOCTORS, TABLE).await.extra, ["1000007"]);
    tokio::time::timeout(Duration::from_secs(60), world.execute("drop trigger keep on doctor"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_halted_stream_takes_the_resync_it_asks_for_though_another_is_held() {
    let extra = "resync.automatic = false\nresync.delete_count_min = 1\nresync.delete_fraction_max \
                 = 0.001\n";
    let world = World::with(Config { apart: true, extra: extra.into(), ..Config::default() }).await;
    seed(&world, 50).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    world.execute("insert into doctor (id, doc, _cluster_time) values ('stray', '{}', 1)").await;
    assert_eq!(run(&world, &["resync", "doctor", "--reason", "strays", "--execute"]).0, Some(0));
    world
        .until(
            "the sweep is held",
            "select state = 'held' from tidemark.resync where reason = 'requested'",
        )
        .await;
    let id: i64 = world.scalar("select max(id) from tidemark.resync").await;
    let approve = format!("approve {id} --reason TEXT --execute");
    let said = async || daemon.status().await["action"].to_string().contains(&approve);
    eventually("what is to be done is said", said).await;
    daemon.stop();
    state::lose_position(&world, "doctor").await;

    let daemon = world.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    let remedy = "tidemark resync doctor --reason TEXT --execute";
    assert!(halted["reason"].as_str().unwrap().contains(remedy), "{halted:#}");
    world.execute("delete from doctor where id = 'stray'").await;
    let (code, said) = run(&world, &["resync", "doctor", "--reason", "lost", "--execute"]);
    assert_eq!(code, Some(0), "{said}");
    until_reported(&world, &daemon).await;
    let states =
        "select string_agg(state, ' ' order by id) from tidemark.resync where stream = 'doctor'";
    assert_eq!(world.scalar::<String>(states).await, "completed failed completed");
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_resync_repairs_nothing_and_ends_no_incident() {
    let fakes = Fakes::start().unwrap();
    let slow = "resync.automatic = false\nresync.chunk_documents = 4\n";
    let world = world(&fakes, slow).await;
    seed(&world, 100).await;
    followed(&world).await;
    state::lose_position(&world, "doctor").await;
    let daemon = world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "7")]);
    until("what was lost is told", &world, || fakes.roots().len() == 1).await;
    assert_eq!(run(&world, &["resync", "doctor", "--reason", "lost", "--execute"]).0, Some(0));
    let id: i64 = world.scalar("select max(id) from tidemark.resync").await;
    daemon.until("doctor", "walks", |s| s["resync"]["documents_read"].as_u64() > Some(0)).await;
    assert_eq!(
        run(&world, &["resync", "cancel", &id.to_string(), "--reason", "x", "--execute"]).0,
        Some(0)
    );
    daemon.until_phase("doctor", "streaming").await;
    let said = "select state = 'open' and summary like '%was cancelled%' from tidemark.incident";
    world.until("the incident says so", said).await;
    let looked = "select seen_at from tidemark.process";
    let since: chrono::DateTime<chrono::Utc> = world.scalar(looked).await;
    let later = format!(
        "select max(seen_at) > '{since}'::timestamptz + interval '5s' from tidemark.process"
    );
    world.until("the watch has looked again", &later).await;
    assert!(
        world.scalar::<bool>(said).await && fakes.roots().iter().all(|root| !is_resolved(root))
    );
    let status = daemon.status().await;
    assert_eq!(status["verdict"], "critical");
    assert!(status["action"].as_str().unwrap().contains("tidemark resync doctor"), "{status:#}");

    assert_eq!(run(&world, &["resync", "doctor", "--reason", "again", "--execute"]).0, Some(0));
    until_reported(&world, &daemon).await;
    until("the message is green", &world, || fakes.roots().iter().all(is_resolved)).await;
    assert_eq!(fakes.roots().len(), 1);
    world.until_equal(DOCTORS, TABLE).await;
}
