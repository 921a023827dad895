//! Guarantee 7: history lost is repaired within bounds, while the stream is followed on; and it can
//! be said what was missed.

use std::time::Duration;

use devstack::{Mongo, MongoOptions, Stack};
use fastrand::Rng;
use mongodb::bson::{Document, doc};

use crate::support::{Config, Daemon, World, eventually, run, state};

pub const DOCTORS: &str = "doctorsForDB";
pub const TABLE: &str = "public.doctor";

/// A world over a mongod of its own whose oplog is small, holding `documents` doctors.
pub async fn world(documents: usize, config: Config) -> (Mongo, World) {
    let mongo = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let database = Stack::shared().postgres.database().await.unwrap();
    let world = World::of(&mongo.uri(), &Stack::shared().postgres.url(&database), config).await;
    insert(&world, 0..documents).await;
    (mongo, world)
}

fn number(n: usize) -> String {
    format!("{:07}", n + 1_000_000)
}

pub async fn insert(world: &World, numbers: std::ops::Range<usize>) {
    let mut rng = Rng::with_seed(7);
    let all: Vec<Document> = numbers.map(|n| devstack::revalidation::doctor(&mut rng, n)).collect();
    for part in all.chunks(2_000) {
        world.collection(DOCTORS).insert_many(part).await.unwrap();
    }
}

/// Follows until the first snapshot is done and some rows were written by the live stream, then
/// stops.
pub async fn follow_once(world: &World) {
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let some = doc! { "_id": { "$lt": number(1_500) } };
    world.collection(DOCTORS).update_many(some, doc! { "$set": { "seen": true } }).await.unwrap();
    world.until_equal(DOCTORS, TABLE).await;
    assert_eq!(daemon.stop().0, Some(0));
}

/// `each` inserts, updates and deletes.
async fn change(world: &World, documents: usize, each: usize) {
    insert(world, documents..documents + each).await;
    let doctors = world.collection(DOCTORS);
    let ids = |from: usize| (from..from + each).map(number).collect::<Vec<_>>();
    let set = doc! { "$set": { "doctorStatus": "MISSED" } };
    doctors.update_many(doc! { "_id": { "$in": ids(1_000) } }, set).await.unwrap();
    doctors.delete_many(doc! { "_id": { "$in": ids(5_000) } }).await.unwrap();
}

/// Changes that nobody follows, of which the history is then rolled away.
async fn gap(mongo: &Mongo, world: &World, documents: usize, each: usize) {
    change(world, documents, each).await;
    mongo.roll_oplog(2).await.unwrap();
}

pub async fn until_repaired(world: &World, daemon: &Daemon) {
    world.until("the resync is completed", "select exists (select from tidemark.gap_report)").await;
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollover_while_the_daemon_was_down_is_repaired_and_the_other_stream_never_notices() {
    let (mongo, world) = world(50_000, Config { apart: true, ..Config::default() }).await;
    follow_once(&world).await;
    // Another process keeps the other stream's place while this history rolls over.
    let defaults = include_str!("../../config/default.toml");
    let last = defaults.rsplit("\n[[stream]]").next().unwrap();
    let only = format!("[[stream]]{last}");
    let keeper = world.beside(&Config { apart: true, streams: only, ..Config::default() });
    let mut kept = keeper.start();
    kept.until_phase("recommendation", "streaming").await;
    change(&world, 50_000, 1_000).await;
    let followed = async || state::until_young(&world, "recommendation").await;
    mongo.roll_oplog_gently(3, followed).await.unwrap();
    kept.stop();

    let daemon = world.start();
    // As the log has it: on a slow machine it may be over before the status is looked at.
    let phases = async || daemon.phases("doctor").contains(&"resyncing".to_owned());
    eventually("it is resynced", phases).await;
    until_repaired(&world, &daemon).await;
    let gap: (i64, i64, i64) = world
        .row(
            "select rows_inserted, rows_changed, rows_deleted from tidemark.gap_report where \
             stream = 'doctor'",
        )
        .await;
    assert_eq!(gap, (1_000, 1_000, 1_000));
    let told: (bool, i64) = world
        .row(
            "select blind_from < blind_until, cardinality(sample_ids)::bigint from \
             tidemark.gap_report",
        )
        .await;
    assert!(told.0 && told.1 > 0);
    let others: i64 =
        world.scalar("select count(*) from tidemark.resync where stream = 'recommendation'").await;
    assert_eq!(others, 1, "only its first snapshot");
    let phases = daemon.phases("recommendation");
    assert!(
        !phases.contains(&"resyncing".to_owned()) && !phases.contains(&"halted".to_owned()),
        "{phases:?}"
    );
    let kept: i64 = world
        .scalar(&format!(
            "select count(*) from tidemark.checkpoint_history where {}",
            state::retired_of("doctor")
        ))
        .await;
    assert_eq!(kept, 1, "the lost position is archived");
    assert_eq!(
        daemon
            .metric(
                "tidemark_resyncs_total{reason=\"history_lost\",result=\"completed\",\
                 stream=\"doctor\"}",
            )
            .await,
        1.0
    );
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.resync_seen").await, 0);
    let first: (i64, i64) = world
        .row(
            "select rows_inserted, rows_changed from tidemark.resync where stream = 'doctor' and \
             reason = 'first_snapshot'",
        )
        .await;
    assert_eq!(first, (50_000, 0), "a snapshot's rows are new");
    let (code, listed) = run(&world, &["resync", "list"]);
    assert!(code == Some(0) && listed.contains("history_lost"), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_converges_under_a_writer_at_full_speed_and_a_kill_every_second() {
    let extra = "resync.chunk_documents = 200".to_owned();
    let (mongo, world) = world(20_000, Config { extra, ..Config::default() }).await;
    follow_once(&world).await;
    gap(&mongo, &world, 20_000, 500).await;
    let doctors = world.collection(DOCTORS);
    let stop = tokio_util::sync::CancellationToken::new();
    let told = stop.clone();
    let writing = tokio::spawn(async move {
        let mut rng = Rng::with_seed(11);
        let mut written = 0_u64;
        while !told.is_cancelled() {
            let id = number(rng.usize(..21_000));
            match rng.u8(..4) {
                0 => drop(doctors.delete_one(doc! { "_id": id }).await.unwrap()),
                1 => {
                    let new = doc! { "_id": &id, "doctorStatus": "NEW", "n": rng.i32(..) };
                    doctors.replace_one(doc! { "_id": &id }, new).upsert(true).await.unwrap();
                }
                _ => drop(
                    doctors
                        .update_one(doc! { "_id": id }, doc! { "$set": { "n": rng.i32(..) } })
                        .await
                        .unwrap(),
                ),
            }
            written += 1;
        }
        written
    });
    let mut reads = Vec::new();
    for _ in 0..40 {
        let daemon = world.start();
        eventually("it leads", async || daemon.log().contains("lease granted")).await;
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let open: Option<(i64, i64)> = world
            .row_or_none(
                "select id, documents_read from tidemark.resync where stream = 'doctor' and \
                 state in ('running', 'sweeping')",
            )
            .await;
        daemon.kill();
        match open {
            Some(read) => reads.push(read),
            None if !reads.is_empty() => break,
            None => {}
        }
    }
    assert!(reads.iter().all(|(id, _)| *id == reads[0].0), "one resync, continued: {reads:?}");
    assert!(reads.is_sorted(), "its place never went back: {reads:?}");
    let daemon = world.start();
    world.until("the resync is completed", "select exists (select from tidemark.gap_report)").await;
    stop.cancel();
    assert!(writing.await.unwrap() > 0);
    until_repaired(&world, &daemon).await;
    let walked: (i64, i64) = world
        .row(
            "select count(*), max(documents_read) from tidemark.resync where reason = \
             'history_lost' and stream = 'doctor'",
        )
        .await;
    assert_eq!(walked.0, 1);
    assert!(
        walked.1 < 22_000,
        "no chunk was walked twice: {} documents read of some 20,500",
        walked.1
    );
}

#[tokio::test]
async fn history_lost_again_during_a_resync_begins_it_anew_and_reports_the_whole_gap() {
    let extra = "resync.documents_per_second_max = 150\nresync.chunk_documents = 50".to_owned();
    let (mongo, world) = world(3_000, Config { extra, ..Config::default() }).await;
    let mut first = world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "0")]);
    first.until_phase("doctor", "streaming").await;
    first.stop();
    insert(&world, 3_000..3_050).await;
    mongo.roll_oplog(2).await.unwrap();
    let daemon = world.start();
    daemon
        .until("doctor", "some of it is walked", |s| {
            s["resync"]["documents_read"].as_u64() > Some(1_000)
        })
        .await;
    daemon.kill();
    // Missed, too: a row the walk had been past already.
    world.collection(DOCTORS).delete_one(doc! { "_id": number(0) }).await.unwrap();
    mongo.roll_oplog(2).await.unwrap();
    let daemon = world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "0")]);
    until_repaired(&world, &daemon).await;
    let states: Vec<String> = world
        .column(
            "select state from tidemark.resync where stream = 'doctor' and reason = \
             'history_lost' order by id",
        )
        .await;
    assert_eq!(states, ["failed", "completed"]);
    let gap: (i64, i64, bool) = world
        .row(
            "select rows_inserted, rows_deleted, g.blind_from = (select min(blind_from) from \
             tidemark.resync) from tidemark.gap_report g where stream = 'doctor'",
        )
        .await;
    assert_eq!(gap, (50, 1, true), "what the first repaired is in the report of the second");
}

#[tokio::test]
async fn a_walk_slower_than_the_history_window_keeps_its_place_fresh() {
    let extra = "resync.documents_per_second_max = 150\nresync.chunk_documents = 50".to_owned();
    let (mongo, world) = world(1_500, Config { extra, ..Config::default() }).await;
    let mut first = world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "0")]);
    first.until_phase("doctor", "streaming").await;
    first.stop();
    world.collection(DOCTORS).delete_one(doc! { "_id": number(1_400) }).await.unwrap();
    mongo.roll_oplog(2).await.unwrap();
    let daemon = world.start();
    // As the log has it: on a slow machine it may be over before the status is looked at.
    let phases = async || daemon.phases("doctor").contains(&"resyncing".to_owned());
    eventually("it is resynced", phases).await;
    // The history rolls over, three times, while the walk goes on.
    let followed = async || state::until_young(&world, "doctor").await;
    mongo.roll_oplog_gently(3, followed).await.unwrap();
    world
        .collection(DOCTORS)
        .insert_one(doc! { "_id": "late", "doctorStatus": "NEW" })
        .await
        .unwrap();
    until_repaired(&world, &daemon).await;
    let resyncs: i64 =
        world.scalar("select count(*) from tidemark.resync where stream = 'doctor'").await;
    assert_eq!(resyncs, 2, "the snapshot and one resync");
}

#[tokio::test]
async fn a_dropped_collection_that_is_there_again_is_taken_up_by_a_resync() {
    let (_mongo, world) = world(150, Config { apart: true, ..Config::default() }).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    world.collection(DOCTORS).drop().await.unwrap();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_dropped");
    assert_eq!(
        world.scalar::<i64>("select count(*) from public.doctor").await,
        150,
        "the table is untouched"
    );
    insert(&world, 0..149).await;
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    let reason: String =
        world.scalar("select reason from tidemark.resync order by id desc limit 1").await;
    assert_eq!(reason, "collection_recreated");
}

#[tokio::test]
async fn a_source_that_may_not_be_read_during_a_resync_costs_no_row_and_the_walk_goes_on() {
    let extra = "resync.documents_per_second_max = 40\nresync.chunk_documents = 20".to_owned();
    let (mongo, world) = world(1_000, Config { extra, ..Config::default() }).await;
    let mut first = world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "0")]);
    first.until_phase("doctor", "streaming").await;
    first.stop();
    world.collection(DOCTORS).delete_one(doc! { "_id": number(900) }).await.unwrap();
    mongo.roll_oplog(2).await.unwrap();
    let daemon = world.start();
    daemon
        .until("doctor", "some of it is walked", |s| {
            s["resync"]["documents_read"].as_u64() > Some(100)
        })
        .await;
    let refuse = doc! { "failCommands": ["find"], "appName": &world.name, "errorCode": 13 };
    let always = doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": refuse };
    mongo.client().await.unwrap().database("admin").run_command(always).await.unwrap();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_unauthorised");
    assert_eq!(
        world.scalar::<i64>("select count(*) from public.doctor").await,
        1_000,
        "no row is deleted"
    );
    mongo.clear_failpoint().await.unwrap();
    until_repaired(&world, &daemon).await;
    let resyncs: i64 = world
        .scalar(
            "select count(*) from tidemark.resync where reason = 'history_lost' and \
             stream = 'doctor'",
        )
        .await;
    assert_eq!(resyncs, 1, "the same one went on");
}
