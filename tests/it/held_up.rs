//! Guarantee 10 where one statement alone takes as long as a statement may: its table is parked
//! long before that, and the others wait no longer than that takes.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use serde_json::json;

use crate::parking::{Neighbour, world, world_of, write};
use crate::support::{Config, Daemon, World, run, stream};

/// How long a statement may take by itself.
const LEASE: &str = "lease.duration = \"60s\"\n";

/// A neighbour waits until a statement has run out of its time twice, and until somebody has looked
/// whether it is the server that is slow: nine seconds. On a machine that has other work it is
/// more, but nothing like a lease's length.
const HELD_UP_MAX: Duration = Duration::from_secs(20);

/// Every statement on a table takes so long, whatever it is about.
fn stuck(table: &str, seconds: &str) -> String {
    format!(
        "create sequence if not exists public.tries; create or replace function public.stuck() \
         returns trigger language plpgsql as $$ begin perform nextval('public.tries'); perform \
         pg_sleep({seconds}); return null; end $$; create trigger stuck after insert or update or \
         delete on public.{table} for each statement execute function public.stuck()"
    )
}

async fn both_stream(world: &World, daemon: &Daemon) {
    for name in ["sick", "well"] {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
}

async fn is_parked(daemon: &Daemon) {
    let parked = daemon.until_phase("sick", "parked").await;
    assert_eq!(parked["halt_code"], "target_slow", "{parked:#}");
    let reason = parked["reason"].as_str().unwrap();
    assert!(reason.contains("held up the others"), "{reason}");
    daemon.until("well", "is exact", |well| well["exact"] == true).await;
}

/// Once its table is well it is as it should be, and the neighbour was seen all along.
async fn ends_well(world: &World, daemon: &Daemon, neighbour: Neighbour, table: &str) {
    world.execute(&format!("drop trigger stuck on public.{table}")).await;
    both_stream(world, daemon).await;
    let taken = neighbour.latencies().await;
    world.until_equal("well", "public.well").await;
    let (half, last) = (taken[taken.len() / 2], taken[taken.len() - 1]);
    println!("{} writes to the neighbour, p50 {half:.1?}, max {last:.1?}", taken.len());
    assert!(half < Duration::from_secs(1) && last < HELD_UP_MAX, "p50 {half:?}, max {last:?}");
    assert!(!daemon.phases("well").contains(&"parked".to_owned()), "{:?}", daemon.phases("well"));
    let letters = "select count(*) from tidemark.dead_letter";
    assert_eq!(world.scalar::<i64>(letters).await, 0);
}

/// `change` meets statements on a table that do not end.
async fn a_stuck_table(more: &str, table: &str, change: impl AsyncFnOnce(&World)) {
    let world = world_of(LEASE, more).await;
    let daemon = world.start();
    both_stream(&world, &daemon).await;
    let neighbour = Neighbour::of(&world);
    world.execute(&stuck(table, "300")).await;
    change(&world).await;
    is_parked(&daemon).await;
    write(&world, 0).await;
    ends_well(&world, &daemon, neighbour, table).await;
}

async fn one_update(world: &World) {
    let set = doc! { "$set": { "n": 9_000, "items": [ { "n": 1 } ] } };
    world.collection("sick").update_one(doc! { "_id": 7 }, set).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_one_row() {
    a_stuck_table("", "sick", one_update).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_one_delete() {
    a_stuck_table("", "sick", async |world| {
        world.collection("sick").delete_one(doc! { "_id": 7 }).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_version() {
    a_stuck_table("history = true", "sick_history", one_update).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_an_element_of_an_array() {
    let child = "child = [ { table = \"item\", field = \"items\", column = [ { name = \"n\", \
                 field = \"n\", type = \"integer\" } ] } ]";
    a_stuck_table(child, "item", one_update).await;
}

/// So much that it goes by COPY.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_copy() {
    a_stuck_table("", "sick", async |world| {
        let long = "x".repeat(2_000);
        let documents: Vec<Document> =
            (0..150).map(|n| doc! { "_id": 5_000 + n, "n": n, "long": &long }).collect();
        world.collection("sick").insert_many(documents).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_first_snapshot() {
    let world = world(LEASE).await;
    world.execute(&stuck("sick", "300")).await;
    let daemon = world.start();
    let neighbour = Neighbour::of(&world);
    is_parked(&daemon).await;
    ends_well(&world, &daemon, neighbour, "sick").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_slow_at_every_statement_parks_none() {
    let world = world(LEASE).await;
    let daemon = world.start();
    both_stream(&world, &daemon).await;
    for name in ["sick", "well"] {
        world.execute(&stuck(name, "4")).await;
    }
    for name in ["sick", "well"] {
        let set = doc! { "$set": { "n": 9_000 } };
        let by_id = doc! { "_id": 7 };
        world.collection(name).update_one(by_id, set).upsert(true).await.unwrap();
        world.until_equal(name, &format!("public.{name}")).await;
    }
    for name in ["sick", "well"] {
        let phases = daemon.phases(name);
        assert!(!phases.contains(&"parked".to_owned()), "{name}: {phases:?}");
    }
}

/// Each of its rows takes 40 ms: all at once are cancelled, half of them are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_is_halved_and_its_table_is_not_parked() {
    let world = world(LEASE).await;
    let daemon = world.start();
    both_stream(&world, &daemon).await;
    let per_row = stuck("sick", "0.04").replace("each statement", "each row");
    world.execute(&per_row).await;
    let mut session = world.source.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let documents: Vec<Document> = (0..120).map(|n| doc! { "_id": 5_000 + n, "n": n }).collect();
    let sick = world.collection("sick");
    sick.insert_many(documents).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
    world.until_equal("sick", "public.sick").await;
    let phases = daemon.phases("sick");
    assert!(!phases.contains(&"parked".to_owned()), "{phases:?}");
    let tries: i64 = world.scalar("select last_value from public.tries").await;
    assert!(tries > 120, "{tries} rows were tried: nothing was halved");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_has_nobody_who_waits() {
    let streams = stream("alone", "alone", "");
    let config = Config { extra: LEASE.to_owned(), streams, ..Config::default() };
    let world = World::with(config).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    let daemon = world.start();
    daemon.until_phase("alone", "streaming").await;
    world.execute(&stuck("alone", "5")).await;
    world.collection("alone").insert_one(doc! { "_id": 1 }).await.unwrap();
    world.until_equal("alone", "public.alone").await;
    let tries: i64 = world.scalar("select last_value from public.tries").await;
    assert_eq!(tries, 2, "one statement, which may insert and update, and was not cancelled");
    assert_eq!(daemon.stream("alone").await["failing"], json!([]));
}
