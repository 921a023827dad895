//! `on_delete = "mark"`: guarantees 1, 4, 5, 7 and 8 where the row of a deleted document stays.

use fastrand::Rng;
use mongodb::bson::{Document, doc};
use std::time::Duration;
use tokio::task::JoinHandle;

use crate::refusals::letters;
use crate::support::{Config, Daemon, World, run, state, stream};

/// The rows of documents that there are.
const LIVING: &str = "(select * from public.odd where _deleted_at is null) as living";

/// Positions are lost all the time, and nobody is asked.
const ALLOWANCE: (&str, &str) = ("TIDEMARK__RESYNC__AUTOMATIC_PER_DAY_MAX", "100");

const MARKED: &str = "select id from public.odd where _deleted_at is not null order by id";

fn config(mode: &str, extra: &str) -> Config {
    let streams = stream("odd", "odd", &format!("on_delete = {mode:?}"));
    Config { extra: extra.to_owned(), streams, ..Config::default() }
}

fn documents(numbers: std::ops::Range<i32>) -> Vec<Document> {
    numbers.map(|n| doc! { "_id": format!("{n:06}"), "n": n }).collect()
}

fn ids(numbers: std::ops::Range<i32>) -> Document {
    doc! { "_id": { "$in": numbers.map(|n| format!("{n:06}")).collect::<Vec<_>>() } }
}

async fn followed(extra: &str, rows: i32) -> (World, Daemon) {
    let world = World::with(config("mark", extra)).await;
    world.collection("odd").insert_many(documents(0..rows)).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", LIVING).await;
    (world, daemon)
}

/// Documents of `odd` that are written, changed and deleted, at random and over and over.
pub fn come_and_go(world: &World, seed: u64) -> JoinHandle<()> {
    let odd = world.collection("odd");
    tokio::spawn(async move {
        let mut rng = Rng::with_seed(seed);
        for _ in 0..1_500 {
            let key = doc! { "_id": format!("{:06}", rng.u32(0..60)) };
            if rng.u8(0..3) == 0 {
                odd.delete_one(key).await.unwrap();
            } else {
                let n = rng.i32(0..3);
                odd.replace_one(key, doc! { "n": n }).upsert(true).await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    })
}

/// The position is gone, as if history were lost.
async fn lose_position(world: &World) {
    world
        .execute(
            "update tidemark.checkpoint set resume_token = null, token = null, cluster_time = null",
        )
        .await;
}

async fn until_repaired(daemon: &Daemon) {
    daemon
        .until("odd", "is repaired", |s| s["resync"].is_null() && s["phase"] == "streaming")
        .await;
}

async fn walks(world: &World) -> i64 {
    world.scalar("select count(*) from tidemark.resync").await
}

#[tokio::test]
async fn a_deleted_documents_row_stays_marked_until_the_document_is_there_again() {
    let (world, mut daemon) = followed("", 5).await;
    let odd = world.collection("odd");
    world.execute(&state::keep_positions()).await;
    odd.delete_many(ids(1..3)).await.unwrap();
    world.until_equal("odd", LIVING).await;
    assert_eq!(world.column(MARKED).await, ["000001", "000002"]);
    let told: (bool, bool, bool) = world
        .row(
            "select bool_and(_deleted_at = to_timestamp(_cluster_time >> 32)), \
             bool_and(_cluster_time > (select max(_cluster_time) from public.odd where id = \
             '000000')), bool_and(doc ? 'n') from public.odd where _deleted_at is not null",
        )
        .await;
    assert_eq!(told, (true, true, true), "the time of the deletion, and the row as it was");
    // As it was, and otherwise; by one that is not there, nothing.
    odd.insert_many(documents(1..2)).await.unwrap();
    odd.replace_one(doc! { "_id": "000002" }, doc! { "n": "other" }).upsert(true).await.unwrap();
    odd.insert_one(doc! { "_id": "in and out" }).await.unwrap();
    odd.delete_one(doc! { "_id": "in and out" }).await.unwrap();
    odd.delete_many(ids(3..4)).await.unwrap();
    world.until_equal("odd", LIVING).await;
    let compared = world.command(&["compare", "odd", "--json"]).output().unwrap();
    let told: serde_json::Value = serde_json::from_slice(&compared.stdout).unwrap();
    let found = &told["compared"];
    assert!(compared.status.success() && found["rows"] == 4 && found["extra"] == 0, "{told}");
    // All of it once more.
    let every = "select string_agg(concat(id, doc, _cluster_time, _deleted_at), ',' order by id) \
                 from public.odd";
    let before: String = world.scalar(every).await;
    assert_eq!(daemon.stop().0, Some(0));
    world.execute(&state::take_positions_back()).await;
    let daemon = world.start();
    odd.insert_one(doc! { "_id": "last" }).await.unwrap();
    world.until_equal("odd", LIVING).await;
    odd.delete_one(doc! { "_id": "last" }).await.unwrap();
    world.until_equal("odd", LIVING).await;
    let after = every.replace("public.odd", "public.odd where id <> 'last'");
    assert_eq!(world.scalar::<String>(&after).await, before, "a replay changes nothing");
    assert!(daemon.stream("odd").await["dead_letters"] == 0);
    assert_eq!(walks(&world).await, 1, "nothing was walked again");
}

#[tokio::test]
async fn a_sweep_marks_within_its_caps_and_does_not_find_the_marked_again() {
    let caps = "resync.delete_count_min = 20\nresync.chunk_documents = 50";
    let (world, mut daemon) = followed(caps, 400).await;
    let odd = world.collection("odd");
    odd.delete_many(ids(380..400)).await.unwrap();
    world.until_equal("odd", LIVING).await;
    assert_eq!(daemon.stop().0, Some(0));
    odd.delete_many(ids(0..30)).await.unwrap();
    lose_position(&world).await;
    let daemon = world.start();
    let held = daemon.until("odd", "is held", |s| s["resync"]["state"] == "held").await;
    let note = held["resync"]["note"].as_str().unwrap();
    assert!(note.contains("30 of 380 rows"), "the marked count as rows no more: {note}");
    // One comes back meanwhile: its row is a living one, however old.
    odd.insert_many(documents(7..8)).await.unwrap();
    let id = held["resync"]["id"].to_string();
    assert_eq!(
        run(&world, &["resync", "approve", &id, "--reason", "a test", "--execute"]).0,
        Some(0)
    );
    until_repaired(&daemon).await;
    assert_eq!(world.until_equal("odd", LIVING).await, 351);
    let told: (i64, bool) = world
        .row(
            "select count(*), bool_and(_deleted_at = to_timestamp(_cluster_time >> 32) and \
             _deleted_at > now() - interval '10 minutes') from public.odd where _deleted_at is not \
             null",
        )
        .await;
    assert_eq!(told, (49, true));
    // What is put back as it was is a change that comes after the marks.
    odd.insert_many(documents(0..5)).await.unwrap();
    assert_eq!(world.until_equal("odd", LIVING).await, 356);
    let swept = "select rows_deleted from tidemark.gap_report order by resync_id desc limit 1";
    assert_eq!(world.scalar::<i64>(swept).await, 29);
    let request = ["resync", "odd", "--reason", "a test", "--execute"];
    assert_eq!(run(&world, &request).0, Some(0));
    world.until("walked once more", "select count(*) = 2 from tidemark.gap_report").await;
    assert_eq!(world.scalar::<i64>(swept).await, 0, "nothing is left to be swept");
    world.until_equal("odd", LIVING).await;
}

#[tokio::test]
async fn a_mark_that_is_refused_is_set_aside_alone_and_made_once_it_may_be() {
    let (world, daemon) = followed("", 20).await;
    world
        .execute(
            "create function refuse() returns trigger language plpgsql as $$ begin if \
             new._deleted_at is not null and new.id = '000007' then raise exception 'no'; end if; \
             return new; end $$; create trigger refuse before update on public.odd for each row \
             execute function refuse()",
        )
        .await;
    world.collection("odd").delete_many(doc! {}).await.unwrap();
    letters(&world, 1).await;
    world
        .until(
            "the rest is marked",
            "select count(*) = 19 from public.odd where _deleted_at is \
                 not null",
        )
        .await;
    world.execute("drop trigger refuse on public.odd").await;
    let retry = ["dead-letter", "retry", "--all", "odd", "--reason", "mended", "--execute"];
    assert_eq!(run(&world, &retry).0, Some(0));
    assert_eq!(world.until_equal("odd", LIVING).await, 0);
    assert_eq!(world.scalar::<i64>("select count(*) from public.odd").await, 20);
    daemon.until_phase("odd", "streaming").await;
}

#[tokio::test]
async fn a_first_snapshot_over_marked_rows_alone_takes_the_marks_off() {
    let (world, mut daemon) = followed("", 300).await;
    let odd = world.collection("odd");
    odd.delete_many(doc! {}).await.unwrap();
    assert_eq!(world.until_equal("odd", LIVING).await, 0);
    assert_eq!(daemon.stop().0, Some(0));
    // Nothing is known of the stream any more.
    world
        .execute(
            "delete from tidemark.checkpoint; delete from tidemark.lease; delete from \
             tidemark.stream; delete from tidemark.resync",
        )
        .await;
    odd.insert_many(documents(100..400)).await.unwrap();
    let _daemon = world.start();
    assert_eq!(world.until_equal("odd", LIVING).await, 300);
    assert_eq!(world.column("select reason from tidemark.resync").await, ["first_snapshot"]);
    assert_eq!(world.scalar::<i64>("select count(*) from public.odd").await, 400);
}

#[tokio::test]
async fn who_removes_marked_rows_by_hand_causes_no_resync() {
    let (world, mut daemon) = followed("", 5).await;
    let odd = world.collection("odd");
    for number in 0..5 {
        odd.delete_many(ids(number..number + 1)).await.unwrap();
        world.until_equal("odd", LIVING).await;
        world.execute("delete from public.odd where _deleted_at is not null").await;
        // The table is looked at once a second, and at each start.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        odd.update_many(doc! {}, doc! { "$inc": { "n": 1 } }).await.unwrap();
        world.until_equal("odd", LIVING).await;
    }
    assert_eq!(daemon.stop().0, Some(0));
    let daemon = world.start();
    odd.insert_many(documents(0..2)).await.unwrap();
    assert_eq!(world.until_equal("odd", LIVING).await, 2);
    daemon.until_phase("odd", "streaming").await;
    assert_eq!(walks(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_the_living_rows_are_the_source_and_none_is_gone() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let world = World::with(config("mark", "")).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    // No row is ever deleted, goes back in time, or is marked with another time than its own.
    world
        .execute(
            "create table public.wrong (what text); create function look() returns trigger \
             language plpgsql as $$ begin if tg_op = 'DELETE' then insert into wrong values \
             ('deleted'); elsif new._cluster_time < old._cluster_time then insert into wrong \
             values ('back'); elsif new._deleted_at <> to_timestamp(new._cluster_time >> 32) then \
             insert into wrong values ('time'); end if; return null; end $$; create trigger look \
             after update or delete on public.odd for each row execute function look()",
        )
        .await;
    let changing = come_and_go(&world, seed);
    let mut rng = Rng::with_seed(seed);
    let mut kills = 0;
    while !changing.is_finished() || kills < 4 {
        let place = ["apply.begun=abort@2", "apply.before_commit=abort@25"][kills % 2];
        let daemon = world.start_with(&[("TIDEMARK_FAILPOINT", place), ALLOWANCE]);
        tokio::time::sleep(Duration::from_millis(rng.u64(500..2_000))).await;
        if rng.u8(0..4) == 0 {
            lose_position(&world).await;
        }
        daemon.kill();
        kills += 1;
    }
    changing.await.unwrap();
    let _daemon = world.start_with(&[ALLOWANCE]);
    world.until_equal("odd", LIVING).await;
    world.collection("odd").delete_many(doc! { "n": 0 }).await.unwrap();
    let living = world.until_equal("odd", LIVING).await;
    let marked = world.scalar::<i64>(&format!("select count(*) from ({MARKED}) as m")).await;
    assert!(living > 0 && marked > 0, "{living} living, {marked} marked");
    assert_eq!(world.column("select what from public.wrong").await, [""; 0]);
}

#[tokio::test]
async fn the_modes_are_changed_by_a_column_and_by_a_person() {
    let world = World::with(config("delete", "")).await;
    let odd = world.collection("odd");
    odd.insert_many(documents(0..4)).await.unwrap();
    let mut daemon = world.start();
    world.until_equal("odd", "public.odd").await;
    assert_eq!(daemon.stop().0, Some(0));
    world.configure(&config("mark", ""));
    let (code, told) = run(&world, &["check"]);
    assert!(code == Some(0) && told.contains("_deleted_at"), "not there yet: {told}");
    let mut daemon = world.start();
    odd.delete_many(ids(0..2)).await.unwrap();
    assert_eq!(world.until_equal("odd", LIVING).await, 2);
    assert_eq!(daemon.stop().0, Some(0));
    // Back again: nothing goes on as if the marked rows were documents.
    world.configure(&config("delete", ""));
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(1), "{told}");
    let remedy = "delete from \"public\".\"odd\" where _deleted_at is not null; alter table \
                  \"public\".\"odd\" drop column _deleted_at";
    let words: Vec<&str> = told.split_whitespace().collect();
    assert!(words.join(" ").contains(remedy), "{told}");
    assert!(words.join(" ").contains("rows of public.odd marked as deleted 2"), "{told}");
    let daemon = world.start();
    let halted = daemon.until("odd", "waits", |s| s["halt_code"].is_string()).await;
    assert_eq!(halted["halt_code"], "target_schema_mismatch");
    world.execute(remedy).await;
    odd.delete_many(ids(2..3)).await.unwrap();
    assert_eq!(world.until_equal("odd", "public.odd").await, 1);
}
