//! Another source is adopted for a group whose streams are not all under way: guarantees 2 and 14
//! for those, too.

use devstack::{Mongo, MongoOptions};
use mongodb::bson::doc;

use crate::support::{Config, Daemon, World, run, stream};

const QUICK: &str = "alert.resolve_hold = \"1s\"\nresync.delete_count_min = 1000\n";

const SLOW: &str = "resync.documents_per_second_max = 40\nresync.chunk_documents = 10\n";

/// With what may not be seen any more hidden, or not yet. The table is the same.
fn of(name: &str, mask: &str) -> String {
    let word = format!("{{ name = \"word\", field = \"word\", type = \"text\"{mask} }}");
    let n = "{ name = \"n\", field = \"n\", type = \"integer\" }";
    stream(name, name, &format!("column = [ {n}, {word} ]"))
}

const MASK: &str = ", mask = \"first_1\"";

async fn fill(world: &World, name: &str, numbers: std::ops::Range<i32>) {
    let documents = numbers.map(|n| doc! { "_id": n, "n": n, "word": "secret" });
    world.collection(name).insert_many(documents).await.unwrap();
}

async fn world(names: &[&str]) -> (World, Daemon) {
    let streams = names.iter().map(|name| of(name, "")).collect();
    let world = World::with(Config { extra: QUICK.to_owned(), streams, ..Config::default() }).await;
    for name in names {
        fill(&world, name, 0..200).await;
    }
    let daemon = world.start();
    for name in names {
        until_equal(&world, &daemon, name).await;
    }
    (world, daemon)
}

/// The same tables under other streams, over a cluster of its own with other documents.
async fn moved(world: &World, mongo: &Mongo, extra: &str, streams: String) -> World {
    let extra = format!("{QUICK}{extra}source.uri = {:?}\n", mongo.uri());
    let mut other = world.beside(&Config { extra, streams, ..Config::default() });
    other.source = mongo.client().await.unwrap().database(&world.name);
    other
}

async fn until_equal(world: &World, daemon: &Daemon, name: &str) {
    daemon.until_phase(name, "streaming").await;
    world.until_equal(name, &format!("public.{name}")).await;
}

/// Its rows are of the other cluster, and hide what is to be hidden, in `doc` too.
async fn until_masked(world: &World, daemon: &Daemon, name: &str) {
    daemon.until_phase(name, "streaming").await;
    let made = format!("select count(*) = 150 and bool_and(n >= 150 and word = 's') from {name}");
    world.until("its rows are made anew", &made).await;
}

async fn until_foreign(daemon: &Daemon, name: &str) {
    daemon.until(name, "is halted", |s| s["halt_code"] == "source_foreign").await;
}

fn does(world: &World, arguments: &[&str]) {
    let (code, told) = run(world, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {told}");
}

fn adopt(world: &World, name: &str) {
    does(world, &["source", "adopt", name, "--reason", "moved", "--execute"]);
}

/// A part of the stream is walked for this reason, and nobody can end the walk.
async fn until_walked_for_good(world: &World, name: &str, reason: &str) {
    let walked = format!(
        "select exists (select from tidemark.resync where stream = '{name}' and reason = \
         '{reason}' and state = 'running' and documents_read > 9)"
    );
    world.until("it is walked", &walked).await;
    let id = "select max(id)::text from tidemark.resync where stream = ";
    let id: String = world.scalar(&format!("{id}'{name}'")).await;
    let (code, told) = run(world, &["resync", "cancel", &id, "--reason", "x", "--execute"]);
    assert!(code == Some(1) && told.contains("cannot be cancelled"), "{told}");
    let asked = format!(
        "insert into tidemark.command (verb, stream, arguments, actor, reason, service, \
         environment) values ('resync_cancel', '{name}', '{{\"id\": {id}}}', 'x', 'x', \
         'tidemark', 'development')"
    );
    world.execute(&asked).await;
    let refused = format!(
        "select outcome = 'refused' from tidemark.command where verb = 'resync_cancel' and stream \
         = '{name}'"
    );
    world.until("the daemon refuses it, too", &refused).await;
}

/// Else its rows would be of two mappings for ever, and what is to be hidden would be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_configured_anew_of_a_paused_neighbour_is_made_when_its_pause_is_over() {
    let (world, mut daemon) = world(&["still", "well"]).await;
    does(&world, &["pause", "still", "--until", "2h", "--reason", "x", "--execute"]);
    daemon.until_phase("still", "paused").await;
    assert_eq!(daemon.stop().0, Some(0));

    let mongo = Mongo::start(&MongoOptions::default()).unwrap();
    let streams = ["still", "well"].map(|name| of(name, MASK)).concat();
    let other = moved(&world, &mongo, SLOW, streams).await;
    for name in ["still", "well"] {
        fill(&other, name, 150..300).await;
    }
    let daemon = other.start();
    until_foreign(&daemon, "well").await;
    adopt(&other, "well");
    until_masked(&other, &daemon, "well").await;
    daemon.until_phase("still", "paused").await;
    does(&other, &["resume", "still", "--reason", "x", "--execute"]);
    until_walked_for_good(&other, "still", "paused").await;
    until_masked(&other, &daemon, "still").await;
    let walks = "select string_agg(reason || ' ' || state, ', ' order by id) from \
                 tidemark.resync where stream = 'still'";
    let walks: String = world.scalar(walks).await;
    assert_eq!(walks, "first_snapshot completed, source_adopted cancelled, paused completed");
}

/// Else its rows would be of two clusters, and of two mappings, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_walk_of_a_source_that_was_adopted_cannot_be_cancelled() {
    let (world, mut daemon) = world(&["well"]).await;
    assert_eq!(daemon.stop().0, Some(0));
    let mongo = Mongo::start(&MongoOptions::default()).unwrap();
    let other = moved(&world, &mongo, SLOW, of("well", MASK)).await;
    fill(&other, "well", 150..300).await;
    let daemon = other.start();
    until_foreign(&daemon, "well").await;
    adopt(&other, "well");
    until_walked_for_good(&other, "well", "source_adopted").await;
    until_masked(&other, &daemon, "well").await;
}

/// It is the other group's until that lets it go, whatever source is adopted here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_another_group_has_not_let_go_is_not_adopted_with_its_neighbours() {
    let (world, mut daemon) = world(&["stays", "goes"]).await;
    assert_eq!(daemon.stop().0, Some(0));
    let side = |name| format!("{}group = \"side\"\n", of(name, ""));
    let streams = of("stays", "") + &side("goes") + &side("new");
    let mongo = Mongo::start(&MongoOptions::default()).unwrap();
    let alone = moved(&world, &mongo, "", of("stays", "")).await;
    let other = moved(&world, &mongo, "", streams).await;
    for name in ["stays", "goes", "new"] {
        fill(&other, name, 150..300).await;
    }
    // The group that the one stream is in is led before the other is.
    let leader = alone.start();
    until_foreign(&leader, "stays").await;
    let daemon = other.start();
    until_equal(&other, &daemon, "new").await;
    // It is answered with the next request of the group.
    run(&other, &["source", "adopt", "goes", "--reason", "moved", "--execute"]);
    let next = ["dead-letter", "accept", "new", "--count", "1", "--reason", "x", "--execute"];
    does(&other, &next);
    let answer = "select concat(outcome, ': ', result) from tidemark.command where verb = \
                  'source_adopt' and stream = 'goes'";
    let answer: String = world.scalar(answer).await;
    assert!(answer.starts_with("refused: ") && answer.contains("has not let"), "{answer}");
    let group = "select \"group\" from tidemark.stream where stream = 'goes'";
    assert_eq!(world.scalar::<String>(group).await, "main");
    let walks = "select count(*) from tidemark.resync where stream = 'goes'";
    assert_eq!(world.scalar::<i64>(walks).await, 1, "it is not walked here yet");

    adopt(&other, "stays");
    until_equal(&other, &leader, "stays").await;
    until_foreign(&daemon, "goes").await;
    adopt(&other, "goes");
    until_equal(&other, &daemon, "goes").await;
    until_equal(&other, &daemon, "new").await;
}
