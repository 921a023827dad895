//! A table that somebody empties under a running daemon, and the change that comes next: whichever
//! it is, the rows that are gone are missed.

use mongodb::bson::{Document, doc};

use crate::support::state::lose_position;
use crate::support::{Config, Daemon, World, eventually, run, stream};

const MANY: i32 = 50;

/// Nobody looks at a table to which nothing is written.
async fn followed(rest: &str) -> (World, Daemon) {
    let extra = "checkpoint.idle_interval = \"1h\"\nresync.automatic_per_day_max = 100\n".into();
    let world = World::with(Config { extra, streams: stream("s", "s", rest), apart: false }).await;
    fill(&world, "first").await;
    let daemon = world.start();
    daemon.until_phase("s", "streaming").await;
    world.until_equal("s", "public.s").await;
    (world, daemon)
}

async fn fill(world: &World, name: &str) {
    let documents = (0..MANY).map(|n| doc! { "_id": format!("{name} {n}"), "n": n });
    world.collection("s").insert_many(documents.collect::<Vec<Document>>()).await.unwrap();
}

/// The row of this document becomes the witness.
async fn witnessed(world: &World, id: &str) {
    let is_witness =
        format!("select witness_id is not distinct from '{id}' from tidemark.stream limit 1");
    eventually("the row is the witness", async || {
        let count = doc! { "$inc": { "n": 1 } };
        world.collection("s").update_one(doc! { "_id": id }, count).upsert(true).await.unwrap();
        world.scalar::<bool>(&is_witness).await
    })
    .await;
    world.until_equal("s", "public.s").await;
}

async fn walks(world: &World) -> i64 {
    world.scalar("select count(*) from tidemark.resync where reason = 'table_replaced'").await
}

/// What was gone is there again, after this many walks in all.
async fn repaired(world: &World, daemon: &Daemon, number: i64) {
    world.until_equal("s", "public.s").await;
    daemon.until_phase("s", "streaming").await;
    assert_eq!(walks(world).await, number);
}

#[tokio::test]
async fn a_table_emptied_before_its_witness_changes_or_goes_is_filled_again() {
    for rest in ["", "on_delete = \"mark\"", "history = true"] {
        let (world, daemon) = followed(rest).await;
        let witness = doc! { "_id": "w" };
        for (number, change) in (1..).zip(["deleted", "changed", "read again"]) {
            witnessed(&world, "w").await;
            world.execute("truncate public.s").await;
            match change {
                "deleted" => {
                    world.collection("s").delete_one(witness.clone()).await.unwrap();
                }
                "changed" => {
                    let set = doc! { "$set": { "n": -1 } };
                    world.collection("s").update_one(witness.clone(), set).await.unwrap();
                }
                _ => {
                    let part = ["resync", "s", "--ids", "w", "--reason", "x", "--execute"];
                    let (_, told) = run(&world, &part);
                    assert!(!told.is_empty());
                }
            }
            repaired(&world, &daemon, number).await;
        }
    }
}

#[tokio::test]
async fn a_table_whose_last_row_went_has_a_witness_with_its_next_row() {
    let (world, daemon) = followed("").await;
    let s = world.collection("s");
    for round in 1..=3 {
        s.delete_many(doc! {}).await.unwrap();
        let empty = "select witness_id is null and not exists (select from public.s) from \
                     tidemark.stream limit 1";
        world.until("the table is empty, and has no witness", empty).await;
        fill(&world, "again").await;
        world.until_equal("s", "public.s").await;
        let witness = "select witness_id is not null from tidemark.stream limit 1";
        assert!(world.scalar::<bool>(witness).await, "in the transaction that brought the rows");
        world.execute("truncate public.s").await;
        eventually("that is noticed", async || {
            s.insert_one(doc! {}).await.unwrap();
            walks(&world).await == round
        })
        .await;
        repaired(&world, &daemon, round).await;
    }
}

/// A walk that writes nothing leaves the witness as it is.
#[tokio::test]
async fn a_table_restored_after_a_walk_that_wrote_nothing_is_filled_again() {
    let (world, mut daemon) = followed("").await;
    world.execute("create table public.backup as select * from public.s").await;
    witnessed(&world, "w").await;
    assert_eq!(daemon.stop().0, Some(0));
    lose_position(&world, "s").await;
    daemon = world.start();
    let walked = "select count(*) = 2 and bool_and(state = 'completed') from tidemark.resync";
    world.until("walked", walked).await;
    assert_eq!(daemon.stop().0, Some(0));
    world.execute("truncate public.s; insert into public.s select * from public.backup").await;
    daemon = world.start();
    repaired(&world, &daemon, 1).await;
}
