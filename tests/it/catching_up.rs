//! A stream that comes into a group that is behind: what happened before its collection was walked,
//! and the group has still to come to, is not applied to it, whatever befalls the process
//! meanwhile.

use mongodb::bson::doc;

use crate::support::{Config, Daemon, World, run, stream};

const COLUMN: &str = "column = [ { name = \"n\", field = \"n\", type = \"integer\" } ]";

/// Each change of the neighbour takes so long, on whatever machine: seconds for all of them.
const BACKLOG: i32 = 400;
const CRAWL: &str = "create function crawl() returns trigger language plpgsql as $$ begin perform \
                     pg_sleep(0.03); return new; end $$; create trigger crawl before insert on \
                     well for each row execute function crawl()";

/// Its first walk is slow; or its table is filled at once.
const SLOW: &str = "resync.documents_per_second_max = 20\nresync.chunk_documents = 5\n";
const FAST: &str = "resync.chunk_documents = 5\n";

/// A group that is behind, whose new stream is walked: the collection was dropped and made again
/// since, so that no event to come tells of what its old documents have come to but its drop.
async fn behind(pace: &str) -> (World, Daemon) {
    let extra = "batch.events_max = 1\nresync.automatic = false\n";
    let config = |streams: String, more: &str| Config {
        extra: format!("{extra}{more}"),
        streams,
        ..Config::default()
    };
    let world = World::with(config(stream("well", "well", COLUMN), "")).await;
    world.collection("well").insert_one(doc! { "_id": -1, "n": 0 }).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("well", "streaming").await;
    world.until_equal("well", "public.well").await;
    assert_eq!(daemon.stop().0, Some(0));
    world.execute(CRAWL).await;
    let backlog = (0..BACKLOG).map(|n| doc! { "_id": n, "n": n });
    world.collection("well").insert_many(backlog).await.unwrap();
    let late = world.collection("late");
    late.insert_many((0..100).map(|n| doc! { "_id": n, "n": n })).await.unwrap();
    late.delete_many(doc! { "_id": { "$gt": 90 } }).await.unwrap();
    late.drop().await.unwrap();
    late.insert_many((50..150).map(|n| doc! { "_id": n, "n": n + 1 })).await.unwrap();
    let streams = ["well", "late"].map(|name| stream(name, name, COLUMN)).concat();
    world.configure(&config(streams, pace));
    let daemon = world.start();
    (world, daemon)
}

/// Else the test would show nothing.
async fn assert_behind(world: &World) {
    let applied: i64 = world.scalar("select count(*) from well").await;
    assert!(applied < i64::from(BACKLOG), "the group has caught up already");
}

async fn until_whole(world: &World, daemon: &Daemon) {
    world.until_equal("well", "public.well").await;
    world.collection("well").insert_one(doc! { "_id": -2, "n": 0 }).await.unwrap();
    world.collection("late").insert_one(doc! { "_id": -2, "n": 0 }).await.unwrap();
    for name in ["well", "late"] {
        world.until_equal(name, &format!("public.{name}")).await;
        daemon.until_phase(name, "streaming").await;
    }
    let walks = "select string_agg(reason || ' ' || state, ', ') from tidemark.resync where stream \
                 = 'late'";
    assert_eq!(world.scalar::<String>(walks).await, "first_snapshot completed");
    let told = "select count(*) from tidemark.incident where code = 'source_dropped'";
    assert_eq!(world.scalar::<i64>(told).await, 0);
}

const BEGUN: &str = "select exists (select from tidemark.resync where stream = 'late' and \
                     documents_read > 0)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_the_middle_of_its_walk_leaves_no_row_of_the_collection_before() {
    let (world, daemon) = behind(SLOW).await;
    world.until("a part is walked", BEGUN).await;
    let asked = ["dead-letter", "accept", "well", "--count", "1", "--reason", "x", "--execute"];
    let (code, told) = run(&world, &asked);
    assert_eq!(code, Some(0), "{told}");
    assert_behind(&world).await;
    until_whole(&world, &daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_its_walk_neither_stops_it_nor_has_it_walked_again() {
    let (world, daemon) = behind(SLOW).await;
    world.until("a part is walked", BEGUN).await;
    daemon.kill();
    assert_behind(&world).await;
    let daemon = world.start();
    until_whole(&world, &daemon).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_after_its_walk_neither_stops_it_nor_has_it_walked_again() {
    let (world, daemon) = behind(FAST).await;
    let completed = "select exists (select from tidemark.resync where stream = 'late' and state = \
                     'completed')";
    world.until("it is walked", completed).await;
    daemon.kill();
    assert_behind(&world).await;
    let daemon = world.start();
    until_whole(&world, &daemon).await;
}
