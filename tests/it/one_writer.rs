//! A table has one writer of all groups of a service: who comes to one that another group still
//! writes waits until that has let it go.

use std::time::Duration;

use mongodb::bson::doc;

use crate::changing::{fill, of, until_equal, until_streaming, walks};
use crate::support::{Config, Daemon, World, run};

/// A stream of a collection, into another's table.
fn into(name: &str, collection: &str, table: &str, group: &str) -> String {
    let group = if group.is_empty() { String::new() } else { format!("group = {group:?}\n") };
    format!("[[stream]]\nname = {name:?}\ncollection = {collection:?}\ntable = {table:?}\n{group}")
}

fn with(streams: &[String]) -> Config {
    let none = of(&[]);
    // Whoever has a table keeps it, however slow the machine.
    let extra = format!("{}\nlease.duration = \"20s\"", none.extra);
    Config { streams: streams.concat(), extra, ..none }
}

async fn until_waits(daemon: &Daemon, stream: &str, for_what: &str) {
    let waits = daemon.until(stream, "waits", |s| s["phase"] == "parked").await;
    assert_eq!(waits["halt_code"], "stream_parked", "{waits:#}");
    assert!(waits["reason"].as_str().unwrap().contains(for_what), "{waits:#}");
}

/// Of a release that is rolled out, the one process has the table for a stream that the other does
/// not know; or for one that wrote another table before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_another_group_writes_waits_for_it() {
    for is_new in [true, false] {
        let world = World::with(with(&[into("two", "two", "two", "other")])).await;
        for name in ["one", "two", "fresh"] {
            fill(&world, name).await;
        }
        world.collection("fresh").insert_one(doc! { "_id": 60, "n": 1 }).await.unwrap();
        let mut old = world.start();
        until_streaming(&old, &["two"]).await;
        until_equal(&world, &["two"]).await;
        let one = into("one", "one", "one", "");
        let next = world.beside(&with(&[one.clone(), into("moved", "fresh", "fresh", "")]));
        if !is_new {
            let mut before = next.start();
            until_streaming(&before, &["one", "moved"]).await;
            assert_eq!(before.stop().0, Some(0));
        }
        next.configure(&with(&[one, into("moved", "fresh", "two", "")]));
        let mut new = next.start();
        until_streaming(&new, &["one"]).await;
        until_waits(&new, "moved", "written for stream two of group other").await;
        let asked = ["resync", "moved", "--reason", "x", "--execute"];
        let (code, told) = run(&next, &asked);
        assert!(code == Some(1) && told.contains("written for stream two"), "{told}");
        for n in 0..20 {
            world.collection("two").insert_one(doc! { "_id": 100 + n }).await.unwrap();
            world.collection("fresh").insert_one(doc! { "_id": 200 + n }).await.unwrap();
        }
        until_equal(&world, &["one", "two"]).await;

        assert_eq!(old.stop().0, Some(0));
        world.until_equal("fresh", "public.two").await;
        until_streaming(&new, &["one", "moved"]).await;
        let walked = walks(&world).await;
        let expected = if is_new { "mapping_changed" } else { "first_snapshot mapping_changed" };
        assert_eq!(walked["moved"], expected, "{walked:?}");

        // Who comes with the old configuration has no part in it, until it is let go in turn.
        let mut old = world.start();
        until_waits(&old, "two", "written for stream moved of group main").await;
        world.collection("two").insert_one(doc! { "_id": 300 }).await.unwrap();
        world.collection("fresh").insert_one(doc! { "_id": 301 }).await.unwrap();
        world.until_equal("fresh", "public.two").await;
        assert_eq!(new.stop().0, Some(0));
        world.until_equal("two", "public.two").await;
        until_streaming(&old, &["two"]).await;
        assert_eq!(old.stop().0, Some(0));
    }
}

/// It would be written by the group that still has it, too, whatever this one's walk finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_resync_is_a_way_around_a_group_that_has_not_let_a_stream_go() {
    let world = World::with(with(&[into("two", "two", "two", "other")])).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
    }
    let mut old = world.start();
    until_streaming(&old, &["two"]).await;
    let filter = "filter = '{\"n\": 0}'\n";
    let now = into("renamed", "two", "two", "") + filter;
    let next = world.beside(&with(&[into("one", "one", "one", ""), now]));
    let new = next.start();
    until_streaming(&new, &["one"]).await;
    until_waits(&new, "renamed", "in group other, which has not let it go").await;
    for asked in [
        &["resync", "renamed", "--reason", "x", "--execute"][..],
        &["source", "adopt", "renamed", "--reason", "x", "--execute"],
    ] {
        let (code, told) = run(&next, asked);
        assert!(code == Some(1) && told.contains("not let the stream go"), "{told}");
    }
    for n in 0..20 {
        world.collection("two").insert_one(doc! { "_id": 100 + n, "n": n % 2 }).await.unwrap();
    }
    until_equal(&world, &["one", "two"]).await;
    assert_eq!(old.stop().0, Some(0));
    until_streaming(&new, &["one", "renamed"]).await;
    let held = "select count(*) = 60 from public.two where doc ->> 'n' = '0'";
    world.until("its documents are there", held).await;
    world.until("no others are", "select count(*) = 60 from public.two").await;
    assert_eq!(walks(&world).await["renamed"], "first_snapshot mapping_changed");
}

/// Each waits for the other's: one of them leaves its own first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_two_groups_change_tables_with_one_another() {
    let streams = |one, two| with(&[into("one", "one", one, ""), into("two", "two", two, "other")]);
    let world = World::with(streams("one", "two")).await;
    for name in ["one", "two"] {
        fill(&world, name).await;
        world.collection(name).insert_one(doc! { "_id": 100, "of": name }).await.unwrap();
    }
    let mut daemon = world.start();
    until_streaming(&daemon, &["one", "two"]).await;
    until_equal(&world, &["one", "two"]).await;
    for (is_reload, one, two) in [(true, "two", "one"), (false, "one", "two")] {
        world.configure(&streams(one, two));
        if is_reload {
            daemon.signal("HUP");
        } else {
            daemon.stop();
            daemon = world.start();
        }
        let moved =
            format!("select table_name = {one:?} from tidemark.stream where stream = 'one'");
        let moved = moved.replace('"', "'");
        world.until_within(Duration::from_secs(90), "one writes it", &moved).await;
        for name in ["one", "two"] {
            world.collection(name).insert_one(doc! { "of": name }).await.unwrap();
        }
        world.until_equal("one", &format!("public.{one}")).await;
        world.until_equal("two", &format!("public.{two}")).await;
        until_streaming(&daemon, &["one", "two"]).await;
    }
}
