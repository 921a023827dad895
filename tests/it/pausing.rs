//! A person stops one stream for a while: its group goes on, nobody is woken, and what was missed
//! is repaired when it goes on.

use std::time::Duration;

use devstack::{Mongo, MongoOptions};
use mongodb::bson::{Document, doc};
use serde_json::Value;

use crate::support::{Config, Daemon, World, eventually, run, stream};

const COLUMN: &str = "column = [ { name = \"n\", field = \"n\", type = \"integer\" } ]";

const QUICK: &str = "retry.escalate_after = \"1s\"\nalert.resolve_hold = \"1s\"\n";

async fn world(names: &[&str], extra: &str) -> World {
    let streams = names.iter().map(|name| stream(name, name, COLUMN)).collect();
    let extra = format!("{QUICK}{extra}");
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    for name in names {
        let documents = (0..200).map(|n| doc! { "_id": n, "n": n });
        world.collection(name).insert_many(documents).await.unwrap();
    }
    world
}

async fn until_equal(world: &World, daemon: &Daemon, names: &[&str]) {
    for name in names {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
}

fn pause(world: &World, name: &str, until: &str) {
    let asked = ["pause", name, "--until", until, "--reason", "an index is built", "--execute"];
    let (code, told) = run(world, &asked);
    assert!(code == Some(0) && told.contains("paused until "), "{code:?} {told}");
}

/// Some changes of each kind.
async fn write(world: &World, name: &str, round: i32) {
    let collection = world.collection(name);
    let set = doc! { "$set": { "n": 1_000 + round } };
    collection.update_many(doc! { "_id": { "$lt": 20 } }, set).await.unwrap();
    collection.delete_one(doc! { "_id": 100 + round }).await.unwrap();
    let documents: Vec<Document> =
        (0..40).map(|n| doc! { "_id": 1_000 * (round + 1) + n, "n": n }).collect();
    collection.insert_many(documents).await.unwrap();
}

async fn last_walk(world: &World, name: &str) -> (String, String) {
    let walk = format!(
        "select reason, state from tidemark.resync where stream = '{name}' order by id desc limit 1"
    );
    world.row(&walk).await
}

/// It shows wherever people look, and is nobody's alarm.
async fn shows_that_it_is_paused(world: &World, daemon: &Daemon) {
    let is_shown = async || {
        let status = daemon.status().await;
        let action = status["action"].as_str().unwrap_or_default();
        status["verdict"] == "healthy" && action.contains("tidemark resume still")
    };
    eventually("it is healthy, with what to do", is_shown).await;
    let series = "tidemark_stream_phase{phase=\"paused\",stream=\"still\"}";
    daemon.until_metric("it is counted", async || daemon.metric(series).await == 1.0).await;
    let position = "select phase, exact from tidemark.position where stream = 'still'";
    assert_eq!(world.row::<(String, bool)>(position).await, ("paused".to_owned(), false));
    // What is reported now and then.
    let is_told = async || {
        let (code, told) = run(world, &["status", "--stream", "still"]);
        code == Some(0) && told.contains("to do: stream still is paused until")
    };
    eventually("the command says so", is_told).await;
    let asked = ["wait", "still", "--for", "2020-01-01T00:00:00Z", "--timeout", "1s"];
    let (code, told) = run(world, &asked);
    assert!(code == Some(75) && told.contains("it is paused until"), "{told}");
    let asked = ["resync", "still", "--reason", "x", "--execute"];
    let (code, told) = run(world, &asked);
    assert!(code == Some(1) && told.contains("tidemark resume"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_group_goes_on_and_a_resync_repairs_what_was_missed_once_it_is_resumed() {
    let world = world(&["still", "well"], "resync.automatic = false\n").await;
    let mut daemon = world.start();
    until_equal(&world, &daemon, &["still", "well"]).await;
    let asked = ["pause", "still", "--until", "2h", "--reason", "x"];
    let (code, told) = run(&world, &asked);
    assert!(code == Some(0) && told.contains("nothing was changed"), "{told}");
    assert_eq!(daemon.stream("still").await["phase"], "streaming", "a preview changes nothing");

    pause(&world, "still", "2h");
    let is_paused = |s: &Value| s["phase"] == "paused" && s["exact"] == false;
    let paused = daemon.until("still", "is paused", is_paused).await;
    let reason = paused["reason"].as_str().unwrap();
    assert!(reason.starts_with("paused until ") && reason.ends_with("an index is built"));
    assert!(paused["halt_code"].is_null(), "{paused:#}");
    write(&world, "still", 0).await;
    write(&world, "well", 0).await;
    world.until_equal("well", "public.well").await;
    let is_still = async || {
        let kept: i64 = world.scalar("select count(*) from still where n < 1000").await;
        assert_eq!(kept, 200, "nothing is written to it");
    };
    is_still().await;

    shows_that_it_is_paused(&world, &daemon).await;

    // Another process knows it, too.
    daemon.stop();
    let daemon = world.start();
    daemon.until_phase("still", "paused").await;
    // A cluster time tells whole seconds.
    let last: String = world.scalar("select date_trunc('second', now())::text").await;
    write(&world, "still", 1).await;
    write(&world, "well", 1).await;
    world.until_equal("well", "public.well").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    is_still().await;

    let (code, told) = run(&world, &["resume", "still", "--reason", "built"]);
    assert!(code == Some(0) && told.contains("nothing was changed"), "{told}");
    daemon.until_phase("still", "paused").await;
    let (code, told) = run(&world, &["resume", "still", "--reason", "built", "--execute"]);
    assert!(code == Some(0) && told.contains("goes on"), "{told}");
    until_equal(&world, &daemon, &["still", "well"]).await;
    daemon.until("still", "is exact again", |s| s["exact"] == true).await;
    assert_eq!(last_walk(&world, "still").await, ("paused".to_owned(), "completed".to_owned()));
    let blind = format!(
        "select r.blind_from <= c.done_at and r.blind_until >= '{last}' from tidemark.resync as r \
         join tidemark.command as c on c.verb = 'pause' where r.reason = 'paused'"
    );
    assert!(world.scalar::<bool>(&blind).await, "it was blind from its pause to its last change");
    let walks = "select count(*) from tidemark.resync where stream = 'well'";
    assert_eq!(world.scalar::<i64>(walks).await, 1, "its neighbour was never walked again");
    // On a busy machine an end may not answer for longer than a second.
    let told = "select concat_ws(' ', code, stream, summary) from tidemark.incident where code \
                not in ('source_unreachable', 'target_unreachable')";
    assert_eq!(world.column(told).await, [""; 0], "no incident was opened");
    let actors = "select count(*) from tidemark.command where verb in ('pause', 'resume') and \
                  actor <> '' and reason <> '' and outcome = 'done'";
    assert_eq!(world.scalar::<i64>(actors).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_alone_in_its_group_goes_on_by_itself_when_its_time_has_come() {
    let world = world(&["still"], "").await;
    let daemon = world.start();
    until_equal(&world, &daemon, &["still"]).await;
    let written = "select max(_applied_at)::text from still";
    let before: String = world.scalar(written).await;
    pause(&world, "still", "40s");
    daemon.until_phase("still", "paused").await;
    write(&world, "still", 0).await;
    // Its collection goes and comes back, which is nobody's trouble meanwhile.
    world.collection("still").drop().await.unwrap();
    let documents = (5..230).map(|n| doc! { "_id": n, "n": n + 1 });
    world.collection("still").insert_many(documents).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(daemon.stream("still").await["phase"], "paused");
    assert_eq!(world.scalar::<String>(written).await, before, "nothing is written to it");
    let none = |status: &Value| status["incidents"].as_array().unwrap().is_empty();
    assert!(none(&daemon.status().await), "{:#}", daemon.status().await);

    until_equal(&world, &daemon, &["still"]).await;
    let (reason, state) = last_walk(&world, "still").await;
    assert!(["paused", "collection_recreated"].contains(&&*reason), "{reason}");
    assert_eq!(state, "completed");
    eventually("nothing is open", async || none(&daemon.status().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_under_way_ends_and_the_table_is_whole_after_all() {
    let slow = "resync.documents_per_second_max = 15\nresync.chunk_documents = 5\n";
    let world = world(&["still", "well"], slow).await;
    let daemon = world.start();
    daemon.until_phase("still", "snapshotting").await;
    world.until("a part is there", "select count(*) > 9 from still").await;
    pause(&world, "still", "1h");
    let is_paused = |s: &Value| s["phase"] == "paused" && s["resync"].is_null();
    daemon.until("still", "is paused, and not walked", is_paused).await;
    let ended = ("first_snapshot".to_owned(), "cancelled".to_owned());
    assert_eq!(last_walk(&world, "still").await, ended);
    let part: i64 = world.scalar("select count(*) from still").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.scalar::<i64>("select count(*) from still").await, part);
    write(&world, "still", 0).await;
    let (code, told) = run(&world, &["resume", "still", "--reason", "built", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    until_equal(&world, &daemon, &["still", "well"]).await;
    assert_eq!(last_walk(&world, "still").await, ("paused".to_owned(), "completed".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_the_way_to_say_it() {
    let world = world(&["still"], "").await;
    let says = |arguments: &[&str], code: i32, what: &str| {
        let (got, told) = run(&world, arguments);
        assert!(got == Some(code) && told.contains(what), "{arguments:?}: {got:?} {told}");
    };
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    says(&["pause", "still", "--until", "1h", "--reason", "x"], 1, "never followed");
    let daemon = world.start();
    until_equal(&world, &daemon, &["still"]).await;
    says(&["pause", "still", "--until", "8days", "--reason", "x"], 2, "more than 7 days away");
    says(&["pause", "still", "--until", "2020-01-01T00:00:00Z", "--reason", "x"], 2, "to come");
    says(&["pause", "still", "--reason", "x"], 2, "--until");
    says(&["pause", "still", "--until", "1h"], 2, "--reason");
    says(&["pause", "other", "--until", "1h", "--reason", "x"], 1, "there is no stream other");
    says(&["resume", "still", "--reason", "x"], 1, "is not paused: it is streaming");
    // What another program asks for is looked at, too.
    let asked = "insert into tidemark.command (verb, stream, arguments, actor, reason, service, \
                 environment) values ('pause', 'still', '{\"until\": \"2120-01-01T00:00:00Z\"}', \
                 'x', 'x', 'tidemark', 'development')";
    world.execute(asked).await;
    let refused = "select outcome = 'refused' and result like '%7 days%' from tidemark.command";
    world.until("it is refused", refused).await;
    daemon.until_phase("still", "streaming").await;
    assert!(!daemon.phases("still").contains(&"paused".to_owned()), "{:?}", daemon.phases("still"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_stays_paused_when_another_source_is_adopted_for_its_neighbour() {
    let safe = "resync.delete_count_min = 1000\n";
    let world = world(&["still", "well"], safe).await;
    let mut daemon = world.start();
    until_equal(&world, &daemon, &["still", "well"]).await;
    pause(&world, "still", "2h");
    daemon.until_phase("still", "paused").await;
    daemon.stop();
    let before = "select string_agg(id || _applied_at, ',' order by id) from still";
    let before = (before, world.scalar::<String>(before).await);

    let another = Mongo::start(&MongoOptions::default()).unwrap();
    let extra = format!("{QUICK}{safe}source.uri = {:?}\n", another.uri());
    let streams = ["still", "well"].map(|name| stream(name, name, COLUMN)).concat();
    let mut other = world.beside(&Config { extra, streams, ..Config::default() });
    other.source = another.client().await.unwrap().database(&world.name);
    for name in ["still", "well"] {
        let documents = (150..300).map(|n| doc! { "_id": n, "n": n + 1 });
        other.collection(name).insert_many(documents).await.unwrap();
    }
    let daemon = other.start();
    daemon.until("well", "is halted", |s| s["halt_code"] == "source_foreign").await;
    let adopt = ["source", "adopt", "well", "--reason", "moved", "--execute"];
    let (code, told) = run(&other, &adopt);
    assert_eq!(code, Some(0), "{told}");
    daemon.until_phase("well", "streaming").await;
    other.until_equal("well", "public.well").await;
    daemon.until_phase("still", "paused").await;
    assert_eq!(world.scalar::<String>(before.0).await, before.1, "nothing is written to it");

    let (code, told) = run(&other, &["resume", "still", "--reason", "moved", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    daemon.until_phase("still", "streaming").await;
    other.until_equal("still", "public.still").await;
}

const SLOW: &str = "resync.documents_per_second_max = 15\nresync.chunk_documents = 10\n";

fn resume(world: &World, name: &str) {
    let (code, told) = run(world, &["resume", name, "--reason", "x", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
}

/// The stream is walked after a pause, and nobody can end that walk, whoever asks.
async fn until_walked_anew(world: &World, name: &str) {
    let last = format!(
        "select reason = 'paused' and state = 'running' and documents_read > 9 from \
         tidemark.resync where stream = '{name}' order by id desc limit 1"
    );
    world.until("it is walked anew", &last).await;
    let id: i64 = world.scalar("select max(id) from tidemark.resync").await;
    for asked in [vec!["--reason", "x"], vec!["--reason", "x", "--execute"]] {
        let (code, told) = run(world, &[vec!["resync", "cancel", &id.to_string()], asked].concat());
        assert!(code == Some(1) && told.contains("cannot be cancelled"), "{told}");
    }
    let another = format!(
        "insert into tidemark.command (verb, stream, arguments, actor, reason, service, \
         environment) values ('resync_cancel', '{name}', '{{\"id\": {id}}}', 'x', 'x', \
         'tidemark', 'development')"
    );
    world.execute(&another).await;
    let refused = "select bool_and(outcome = 'refused') from tidemark.command where verb = \
                   'resync_cancel'";
    world.until("the daemon refuses it, too", refused).await;
}

/// Else its rows would not be there, and nothing would say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_snapshot_cannot_be_cancelled_after_pauses_either() {
    let world = world(&["still"], SLOW).await;
    let daemon = world.start();
    daemon.until_phase("still", "snapshotting").await;
    world.until("a part is there", "select count(*) > 9 from still").await;
    for _ in 0..2 {
        pause(&world, "still", "1h");
        resume(&world, "still");
        until_walked_anew(&world, "still").await;
    }
    until_equal(&world, &daemon, &["still"]).await;

    // One that was asked for can be.
    let (code, told) = run(&world, &["resync", "still", "--reason", "x", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    daemon.until_phase("still", "resyncing").await;
    let id: i64 = world.scalar("select max(id) from tidemark.resync").await;
    let cancel = ["resync", "cancel", &id.to_string(), "--reason", "x", "--execute"];
    let (code, told) = run(&world, &cancel);
    assert_eq!(code, Some(0), "{told}");
}

/// Else its rows would be of two mappings, and what is to be hidden would be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_of_another_mapping_cannot_be_cancelled_after_a_pause_either() {
    let world = world(&["still", "well"], SLOW).await;
    let mut daemon = world.start();
    until_equal(&world, &daemon, &["still", "well"]).await;
    // It comes before the pause, and while it lasts.
    for (mapping, is_paused) in [("null", false), ("first_1", true)] {
        if is_paused {
            pause(&world, "still", "1h");
            daemon.until_phase("still", "paused").await;
        }
        assert_eq!(daemon.stop().0, Some(0));
        let masked = COLUMN.replace("integer\"", &format!("text\", mask = \"{mapping}\""));
        let masked = masked.replace("\"n\", field", "\"masked\", field");
        let streams = stream("still", "still", &masked) + &stream("well", "well", COLUMN);
        world.configure(&Config { extra: format!("{QUICK}{SLOW}"), streams, ..Config::default() });
        daemon = world.start();
        if !is_paused {
            daemon.until_phase("still", "resyncing").await;
            pause(&world, "still", "1h");
        }
        resume(&world, "still");
        until_walked_anew(&world, "still").await;
        let whole = "select bool_and(state <> 'running') from tidemark.resync";
        world.until("it is completed", whole).await;
        daemon.until_phase("still", "streaming").await;
    }
    let clear = "select count(*) from still where masked is null or length(masked) > 1";
    assert_eq!(world.scalar::<i64>(clear).await, 0);
}
