//! Guarantee 7: no living row is deleted, whatever happened at the source or the target while a
//! resync went on.

use devstack::Stack;
use mongodb::bson::{Document, doc};

use crate::support::{Config, Daemon, World, run, state, stream};

const ROWS: &str = "public.odd";

fn documents(numbers: std::ops::Range<i32>) -> Vec<Document> {
    numbers.map(|n| doc! { "_id": format!("{n:06}"), "n": n }).collect()
}

fn ids(numbers: std::ops::Range<i32>) -> Document {
    doc! { "_id": { "$in": numbers.map(|n| format!("{n:06}")).collect::<Vec<_>>() } }
}

/// So slow that something can happen while it goes on.
fn slow() -> Config {
    let extra = "resync.chunk_documents = 20\nresync.documents_per_second_max = 200".to_owned();
    Config { extra, streams: stream("odd", "odd", ""), ..Config::default() }
}

/// A table that is equal to the source, and a daemon that has been stopped.
async fn followed(config: Config, rows: i32) -> World {
    let world = World::with(config).await;
    world.collection("odd").insert_many(documents(0..rows)).await.unwrap();
    let mut daemon = world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", "0")]);
    daemon.until_phase("odd", "streaming").await;
    world.collection("odd").insert_one(doc! { "_id": "last" }).await.unwrap();
    world.until_equal("odd", ROWS).await;
    assert_eq!(daemon.stop().0, Some(0));
    world
}

/// The position is gone, as if history were lost.
async fn lose_position(world: &World) {
    world
        .execute(
            "update tidemark.checkpoint set resume_token = null, token = null, cluster_time = null",
        )
        .await;
}

/// By the walk's own account, which stays when it has ended.
async fn until_walked(world: &World, documents: u64) {
    let walked = format!(
        "select max(documents_read) > {documents} from tidemark.resync where reason <> \
         'first_snapshot'"
    );
    world.until("it is walked so far", &walked).await;
}

/// A daemon that takes long over a walk: in a few seconds of it something can happen.
fn walk_slowly(world: &World, documents_per_second: &str) -> Daemon {
    world.start_with(&[("TIDEMARK__RESYNC__DOCUMENTS_PER_SECOND_MAX", documents_per_second)])
}

async fn until_repaired(daemon: &Daemon) {
    daemon
        .until("odd", "is repaired", |s| s["resync"].is_null() && s["phase"] == "streaming")
        .await;
}

async fn until_held(daemon: &Daemon) -> serde_json::Value {
    let held = daemon.until("odd", "is held", |s| s["resync"]["state"] == "held").await;
    assert_eq!(held["resync"]["held_code"], "resync_held");
    held
}

fn approve(world: &World, held: &serde_json::Value) {
    let id = held["resync"]["id"].to_string();
    let (code, told) = run(world, &["resync", "approve", &id, "--reason", "a test", "--execute"]);
    assert!(code == Some(0) && told.contains("approved"), "{told}");
}

#[tokio::test]
async fn what_was_deleted_in_the_gap_and_is_put_back_as_it_was_behind_the_walk_stays() {
    let world = followed(slow(), 600).await;
    world.collection("odd").delete_many(ids(0..30)).await.unwrap();
    lose_position(&world).await;
    let daemon = world.start();
    until_walked(&world, 100).await;
    world.collection("odd").insert_many(documents(0..30)).await.unwrap();
    until_repaired(&daemon).await;
    assert_eq!(world.until_equal("odd", ROWS).await, 601);
    assert_eq!(
        world.scalar::<i64>("select count(*) from tidemark.resync_kept").await,
        0,
        "forgotten with the walk"
    );
}

#[tokio::test]
async fn what_was_put_back_while_a_sweep_was_held_stays_when_a_person_approves() {
    let world =
        followed(Config { streams: stream("odd", "odd", ""), ..Config::default() }, 60).await;
    world.collection("odd").delete_many(doc! {}).await.unwrap();
    lose_position(&world).await;
    let mut daemon = world.start();
    let held = until_held(&daemon).await;
    assert_eq!(held["resync"]["rows_to_delete"], 61);
    world.collection("odd").insert_many(documents(0..30)).await.unwrap();
    daemon.until("odd", "has met them", |s| s["events_applied"].as_u64() >= Some(30)).await;
    // A new leader knows it, too.
    daemon.stop();
    let daemon = world.start();
    until_held(&daemon).await;
    world.collection("odd").insert_many(documents(30..60)).await.unwrap();
    daemon.until("odd", "has met them", |s| s["events_applied"].as_u64() >= Some(30)).await;
    approve(&world, &held);
    until_repaired(&daemon).await;
    assert_eq!(
        world.until_equal("odd", ROWS).await,
        60,
        "only the row of the one that was not put back is gone"
    );
}

#[tokio::test]
async fn an_approval_holds_for_no_more_than_the_person_saw() {
    let world =
        followed(Config { streams: stream("odd", "odd", ""), ..Config::default() }, 60).await;
    world.collection("odd").delete_many(doc! {}).await.unwrap();
    lose_position(&world).await;
    let daemon = world.start();
    let held = until_held(&daemon).await;
    world
        .execute(
            "insert into public.odd (id, doc, _cluster_time) select 'x' || n, '{}', 0 from \
             generate_series(1, 9) n",
        )
        .await;
    approve(&world, &held);
    let again = daemon.until("odd", "is held again", |s| s["resync"]["rows_to_delete"] == 70).await;
    assert!(again["resync"]["note"].as_str().unwrap().contains("61 rows were approved"), "{again}");
    assert_eq!(
        world.scalar::<i64>("select count(*) from public.odd").await,
        70,
        "nothing is deleted"
    );
    approve(&world, &again);
    until_repaired(&daemon).await;
    world.until_equal("odd", ROWS).await;
}

/// The last line of defence: even where the walk's own account is wrong.
#[tokio::test]
async fn before_rows_are_swept_the_source_is_asked_for_them_whatever_the_walk_says() {
    let world = followed(slow(), 400).await;
    world.collection("odd").delete_many(ids(390..400)).await.unwrap();
    lose_position(&world).await;
    let daemon = walk_slowly(&world, "15");
    // More than a sweep may delete unasked.
    until_walked(&world, 130).await;
    world.execute("delete from tidemark.resync_seen").await;
    let held = until_held(&daemon).await;
    approve(&world, &held);
    until_repaired(&daemon).await;
    assert_eq!(world.until_equal("odd", ROWS).await, 391);
    assert_eq!(
        world
            .scalar::<i64>("select rows_deleted from tidemark.gap_report order by 1 desc limit 1")
            .await,
        10
    );
}

#[tokio::test]
async fn ids_of_every_type_are_asked_for_and_only_what_is_gone_is_swept() {
    use mongodb::bson::{
        Binary, Bson, DateTime, Decimal128, Timestamp, oid::ObjectId, spec::BinarySubtype,
    };
    let world =
        followed(Config { streams: stream("odd", "odd", ""), ..Config::default() }, 5).await;
    let pair = |even: Bson, odd: Bson| [even, odd];
    let binary =
        |byte| Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] });
    let ids: Vec<[Bson; 2]> = vec![
        pair(Bson::Int32(7), Bson::Int32(8)),
        pair(Bson::Int64(1 << 40), Bson::Int64(1 << 41)),
        pair(Bson::Double(1.5), Bson::Double(f64::NAN)),
        pair(Bson::Decimal128("2.50".parse::<Decimal128>().unwrap()), Bson::Double(-0.0)),
        pair(Bson::ObjectId(ObjectId::new()), Bson::ObjectId(ObjectId::new())),
        pair(Bson::String("65a1b2c365a1b2c365a1b2c3".into()), Bson::String("{\"a\"".into())),
        pair(Bson::String("nul\0".into()), Bson::String("true".into())),
        pair(Bson::Boolean(true), Bson::Boolean(false)),
        pair(Bson::DateTime(DateTime::from_millis(-1)), Bson::DateTime(DateTime::MAX)),
        pair(binary(1), binary(2)),
        pair(doc! { "z": 1, "a": { "b": "c" } }.into(), doc! { "z": 1_i64, "a": 2 }.into()),
        pair(
            Bson::Timestamp(Timestamp { time: 1, increment: 2 }),
            Bson::Timestamp(Timestamp { time: 2, increment: 1 }),
        ),
        pair(Bson::MinKey, Bson::MaxKey),
        pair(Bson::Null, Bson::Symbol("symbol".into())),
        pair(Bson::JavaScriptCode("x".into()), Bson::JavaScriptCode("y".into())),
    ];
    let all = ids.iter().flatten().map(|id| doc! { "_id": id.clone() });
    world.collection("odd").insert_many(all).await.unwrap();
    let mut daemon = world.start();
    world.until("all are there", "select count(*) = 36 from public.odd").await;
    daemon.stop();
    let gone: Vec<Bson> = ids.iter().map(|[_, gone]| gone.clone()).collect();
    world.collection("odd").delete_many(doc! { "_id": { "$in": gone } }).await.unwrap();
    lose_position(&world).await;
    // Nothing that the walk has seen is remembered: it is the source alone that says what lives.
    world
        .execute(
            "create function forget() returns trigger language plpgsql as $$ begin return null; \
             end $$; create trigger forget before insert on tidemark.resync_seen for each row \
             execute function forget()",
        )
        .await;
    let daemon = world.start();
    until_repaired(&daemon).await;
    let left: (i64, i64) = world
        .row("select (select count(*) from public.odd), rows_deleted from tidemark.gap_report")
        .await;
    assert_eq!(left, (21, 15), "{:?}", world.column("select id from public.odd order by 1").await);
}

#[tokio::test]
async fn an_adopted_table_without_times_and_a_row_from_the_future_are_mended() {
    let stack = Stack::shared();
    let database = stack.postgres.database().await.unwrap();
    let config = Config { streams: stream("odd", "odd", ""), ..Config::default() };
    let world = World::of(&stack.mongo.uri(), &stack.postgres.url(&database), config).await;
    world.collection("odd").insert_many(documents(0..50)).await.unwrap();
    world
        .execute(
            "create table public.odd (id text primary key, doc jsonb, _cluster_time bigint, \
             _applied_at timestamptz, _hash bigint); insert into public.odd (id, doc) select \
             lpad(n::text, 6, '0'), '{}' from generate_series(0, 59) n",
        )
        .await;
    let daemon = world.start();
    until_repaired(&daemon).await;
    assert_eq!(world.until_equal("odd", ROWS).await, 50, "ten rows were of no document");
    // Rows without a time are followed like any other.
    world.execute("update public.odd set _cluster_time = null where id < '000020'").await;
    world
        .collection("odd")
        .update_many(ids(0..10), doc! { "$set": { "new": true } })
        .await
        .unwrap();
    world.collection("odd").delete_many(ids(10..20)).await.unwrap();
    assert_eq!(world.until_equal("odd", ROWS).await, 40);
    // Stamped in a year that has not come: no change is newer.
    let year = "5000000000::bigint << 31";
    world
        .execute(&format!(
            "update public.odd set _cluster_time = {year}, doc = '{{}}' where id < '000030'"
        ))
        .await;
    world
        .execute(&format!(
            "insert into public.odd (id, doc, _cluster_time) values ('future', '{{}}', {year})"
        ))
        .await;
    let (code, told) = run(&world, &["resync", "odd", "--reason", "a test", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    until_repaired(&daemon).await;
    assert_eq!(world.until_equal("odd", ROWS).await, 40);
    world.collection("odd").update_many(doc! {}, doc! { "$set": { "newer": true } }).await.unwrap();
    world.until_equal("odd", ROWS).await;
}

#[tokio::test]
async fn a_silent_streams_position_moves_while_a_walk_commits_chunk_after_chunk() {
    let world = followed(slow(), 2_000).await;
    let (code, told) = run(&world, &["resync", "odd", "--reason", "a test", "--execute"]);
    assert!(code == Some(0) && told.contains("is recorded"), "{told}");
    let _daemon = walk_slowly(&world, "60");
    until_walked(&world, 20).await;
    let token = &state::position("token", "odd");
    let before: String = world.scalar(token).await;
    // Another collection of the same replica set moves the source's time on; this one is silent.
    world.collection("other").insert_one(doc! {}).await.unwrap();
    world
        .until("the position moves", &format!("select token <> '{before}' from ({token}) as now"))
        .await;
    let walk: String =
        world.scalar("select state from tidemark.resync order by id desc limit 1").await;
    assert_eq!(walk, "running", "while the walk goes on");
}

/// What the live stream has still to delete was not missed, and is no reason to ask a person.
#[tokio::test]
async fn a_sweep_waits_until_the_live_stream_has_come_to_where_the_walk_ended() {
    let config = slow();
    let extra = format!("{}\nbatch.events_max = 10", config.extra);
    let world = followed(Config { extra, ..config }, 600).await;
    world.collection("odd").delete_many(ids(0..10)).await.unwrap();
    lose_position(&world).await;
    world
        .execute(
            "create function slowly() returns trigger language plpgsql as \
             $$ begin perform pg_sleep(0.02); return old; end $$; \
             create trigger slowly before delete on public.odd for each row execute function \
             slowly()",
        )
        .await;
    let daemon = world.start();
    until_walked(&world, 100).await;
    // More than a sweep may delete unasked, faster than they can be deleted, ahead of the walk.
    world.collection("odd").delete_many(ids(300..600)).await.unwrap();
    until_repaired(&daemon).await;
    assert_eq!(world.until_equal("odd", ROWS).await, 291);
    let swept: i64 = world.scalar("select rows_deleted from tidemark.gap_report").await;
    assert_eq!(swept, 10, "those that were deleted in the gap");
}
