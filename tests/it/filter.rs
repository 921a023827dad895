//! A stream's filter: what matches is what the server's own `find` would answer, and the table is
//! just that, whichever way a document comes into it or leaves it.

use devstack::{Mongo, MongoOptions, Stack};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};

use crate::alerting::until;
use crate::support::{Config, Daemon, World, run, stream};

const FILTER: &str = r#"{"status": {"$in": ["open", "held"]}, "tags.n": {"$gte": 10}}"#;

fn config(filter: &str, extra: &str) -> Config {
    let column = "column = [ { name = \"status\", field = \"status\", type = \"text\" } ]";
    let filtered = stream("one", "things", &format!("filter = '{filter}'\n{column}"));
    Config {
        streams: format!("{filtered}{}", stream("all", "things", column)),
        extra: format!("resync.chunk_documents = 20\n{extra}"),
        ..Config::default()
    }
}

fn thing(n: i32, status: &str, tags: &[i32]) -> Document {
    let tags: Vec<Document> = tags.iter().map(|tag| doc! { "n": tag }).collect();
    doc! { "_id": format!("d{n:04}"), "status": status, "tags": tags }
}

fn id(n: i32) -> Document {
    doc! { "_id": format!("d{n:04}") }
}

/// What the server answers to the filter.
async fn matching(world: &World, filter: &str) -> Vec<String> {
    let filter: Document = serde_json::from_str(filter).unwrap();
    let found = world.collection("things").find(filter).sort(doc! { "_id": 1 }).await.unwrap();
    let found: Vec<Document> = found.try_collect().await.unwrap();
    found.iter().map(|document| document.get_str("_id").unwrap().to_owned()).collect()
}

async fn rows(world: &World) -> Vec<String> {
    world.column("select id from public.one order by id collate \"C\"").await
}

/// Waits until the table is what the server answers; and `compare` agrees.
async fn until_right(world: &World, filter: &str) -> usize {
    let begun = std::time::Instant::now();
    loop {
        let (expected, rows) = (matching(world, filter).await, rows(world).await);
        if expected == rows {
            break;
        }
        let late = begun.elapsed() > std::time::Duration::from_secs(60);
        assert!(!late, "expected {expected:?}\nfound {rows:?}\n{}", world.logs());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    world.until_equal("things", "public.all").await;
    let (code, told) = run(world, &["compare", "one"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(world, &["compare", "one", "--sample", "20"]);
    assert_eq!(code, Some(0), "{told}");
    rows(world).await.len()
}

/// A hundred and twenty documents, a third of which match.
async fn filled(config: Config) -> World {
    let world = World::with(config).await;
    let things = (0..120).map(|n| {
        let status = ["open", "closed", "held"][usize::try_from(n % 3).unwrap()];
        thing(n, status, &[n % 10, n % 20])
    });
    world.collection("things").insert_many(things).await.unwrap();
    world
}

/// Documents come and go in every way.
async fn disturb(world: &World, from: i32) {
    let things = world.collection("things");
    let close = doc! { "$set": { "status": "closed" } };
    things.update_one(id(from + 12), close).await.unwrap();
    things
        .update_many(doc! { "_id": { "$lt": "d0004" } }, doc! { "$set": { "tags.0.n": 50 } })
        .await
        .unwrap();
    things.replace_one(id(from + 15), thing(from + 15, "open", &[])).await.unwrap();
    things.replace_one(id(from + 16), thing(from + 16, "held", &[3, 99])).await.unwrap();
    things.insert_one(thing(from + 1_000, "open", &[10])).await.unwrap();
    things.insert_one(thing(from + 1_001, "open", &[9])).await.unwrap();
    things.delete_one(id(from + 18)).await.unwrap();
    // In and out again, out and in again, within one batch.
    let set = |status: &str| doc! { "$set": { "status": status, "tags": [{ "n": 77 }] } };
    for (n, statuses) in [(21, ["open", "closed"]), (30, ["closed", "open"])] {
        for status in statuses {
            things.update_one(id(from + n), set(status)).await.unwrap();
        }
    }
}

async fn streaming(world: &World) -> Daemon {
    let daemon = world.start();
    daemon.until_phase("one", "streaming").await;
    daemon
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_is_what_matches_however_a_document_comes_and_goes() {
    let world = filled(config(FILTER, "")).await;
    let daemon = streaming(&world).await;
    assert_eq!(until_right(&world, FILTER).await, 40, "of the first snapshot");
    disturb(&world, 0).await;
    until_right(&world, FILTER).await;
    let skipped = "tidemark_events_skipped_total{reason=\"filtered\",stream=\"one\"}";
    let counted = async || daemon.metric(skipped).await >= 5.0;
    daemon.until_metric("what does not match is counted", counted).await;
    let filtered = daemon.metric(skipped).await;
    assert!((5.0..20.0).contains(&filtered), "{filtered}");
    let other = skipped.replace("one", "all");
    assert_eq!(daemon.metric(&other).await, 0.0);
    daemon.kill();

    disturb(&world, 60).await;
    let daemon = streaming(&world).await;
    until_right(&world, FILTER).await;

    // A row that is left over of a living document that does not match: told, and swept, since the
    // source is asked for documents that match.
    let stray = "insert into public.one (id, doc, _cluster_time) values ('d0001', '{}', 1)";
    assert!(!rows(&world).await.contains(&"d0013".to_owned()));
    world.execute(&stray.replace("d0001", "d0013")).await;
    let (code, told) = run(&world, &["compare", "one"]);
    assert!(code == Some(1) && told.contains("d0013"), "{told}");
    let (code, told) = run(&world, &["resync", "one", "--reason", "test", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    until_right(&world, FILTER).await;
    let repaired = "select state = 'completed' and rows_deleted = 1 from tidemark.resync where \
                    reason = 'requested'";
    world.until("it is repaired", repaired).await;
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_filter_is_announced_walks_and_deletes_no_more_than_a_person_allows() {
    let world = filled(config(FILTER, "resync.delete_count_min = 5")).await;
    let daemon = streaming(&world).await;
    until_right(&world, FILTER).await;
    let other = r#"{"status": "closed"}"#;
    world.configure(&config(other, "resync.delete_count_min = 5"));
    let (code, told) = run(&world, &["check"]);
    let announced = "other documents are followed, or other fields of them: stream one will be \
                     walked (about 120 documents)";
    assert!(code == Some(0) && told.contains(announced), "{told}");
    assert!(told.contains("documents sampled of 120 that the filter lets through"), "{told}");
    daemon.signal("HUP");
    let taken = || daemon.log().matches("the configuration is taken anew").count() >= 1;
    until("it is taken", &world, taken).await;
    let held = daemon.until("one", "is held", |s| s["resync"]["state"] == "held").await;
    assert_eq!(held["resync"]["held_code"], "resync_held", "{held:#}");
    assert_eq!(held["resync"]["reason"], "mapping_changed");
    // What is live is followed under the new filter meanwhile.
    world.collection("things").insert_one(thing(500, "closed", &[])).await.unwrap();
    world.collection("things").insert_one(thing(501, "open", &[99])).await.unwrap();
    let followed = "select count(*) = 81 from public.one where id <> 'd0501'";
    world.until("both are there: 40 and 41", followed).await;
    let resync = held["resync"]["id"].to_string();
    let (code, told) = run(&world, &["resync", "approve", &resync, "--reason", "t", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(until_right(&world, other).await, 41);
    let walked = world.column("select stream || ' ' || reason from tidemark.resync order by id");
    let walked = walked.await;
    assert_eq!(walked.last().unwrap(), "one mapping_changed");
    assert_eq!(walked.len(), 3, "the other stream is not walked: {walked:?}");
}

const ALL: &str = r#"{"status": {"$in": ["open", "closed", "held"]}}"#;
const STATUSES: [&str; 3] = ["open", "closed", "held"];
const SOME: &str = r#"{"status": "open"}"#;

/// The source's clock stands still, so that walks start at one time, and their rows carry it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_walk_that_began_at_the_same_time_are_swept_for_whatever_reason() {
    let mongo = Mongo::start(&MongoOptions::default()).unwrap();
    let stack = Stack::shared();
    let database = stack.postgres.database().await.unwrap();
    let asked = config(ALL, "");
    let world = World::of(&mongo.uri(), &stack.postgres.url(&database), asked).await;
    let still = doc! { "setParameter": 1, "writePeriodicNoops": false };
    world.source.client().database("admin").run_command(still).await.unwrap();
    let things = (0..30).map(|n| thing(n, STATUSES[usize::try_from(n % 3).unwrap()], &[]));
    world.collection("things").insert_many(things).await.unwrap();
    let daemon = streaming(&world).await;
    assert_eq!(until_right(&world, ALL).await, 30);
    let taken = |times| {
        let daemon = &daemon;
        move || daemon.log().matches("the configuration is taken anew").count() >= times
    };
    let completed = |reason: &str| {
        format!(
            "select count(*) = 1 from tidemark.resync where stream = 'one' and reason = '{reason}' \
             and state = 'completed'"
        )
    };
    // Its rows are stamped with the walk's start.
    let mut asked = config(ALL, "");
    asked.streams = asked.streams.replacen("name = \"status\"", "name = \"state\"", 1);
    world.configure(&asked);
    daemon.signal("HUP");
    until("it is taken", &world, taken(1)).await;
    world.until("it is made anew", &completed("mapping_changed")).await;
    // Another reason than the mapping, which is another all the same.
    let pause = ["pause", "one", "--until", "1h", "--reason", "x", "--execute"];
    assert_eq!(run(&world, &pause).0, Some(0));
    asked.streams = asked.streams.replace(ALL, SOME);
    world.configure(&asked);
    daemon.signal("HUP");
    until("it is taken", &world, taken(2)).await;
    daemon.until_phase("one", "paused").await;
    assert_eq!(run(&world, &["resume", "one", "--reason", "x", "--execute"]).0, Some(0));
    world.until("it is repaired", &completed("paused")).await;
    let starts = "select count(distinct start_time) from tidemark.resync where stream = 'one' and \
                  reason <> 'first_snapshot'";
    assert_eq!(world.scalar::<i64>(starts).await, 1, "the clock stood still");
    assert_eq!(until_right(&world, SOME).await, 10);
}

/// Of the last change before it: the row is of the very time that the position stands at.
#[tokio::test]
async fn a_walk_that_is_asked_for_before_another_filter_is_taken_sweeps_the_newest_row_too() {
    let world = filled(config(ALL, "checkpoint.idle_interval = \"60s\"")).await;
    let daemon = streaming(&world).await;
    assert_eq!(until_right(&world, ALL).await, 120);
    world.collection("things").insert_one(thing(999, "held", &[])).await.unwrap();
    assert_eq!(until_right(&world, ALL).await, 121);
    daemon.kill();
    // A reply without events may have moved the position on.
    world
        .execute(
            "update tidemark.lease set expires_at = '-infinity'; update public.one set \
             _cluster_time = (select cluster_time from tidemark.checkpoint) where id = 'd0999'",
        )
        .await;
    let extra = "resync.delete_count_min = 1000\ncheckpoint.idle_interval = \"60s\"";
    world.configure(&config(SOME, extra));
    let (code, told) = run(&world, &["resync", "one", "--reason", "x", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    let _daemon = streaming(&world).await;
    let completed = "select count(*) = 1 from tidemark.resync where stream = 'one' and reason = \
                     'mapping_changed' and state = 'completed'";
    world.until("it is made anew", completed).await;
    assert_eq!(until_right(&world, SOME).await, 40);
}

#[tokio::test]
async fn a_filter_that_cannot_be_meant_is_refused_with_its_place() {
    let world = World::with(config(r#"{"a": {"$regex": "x", "$size": 2}}"#, "")).await;
    let (code, told) = run(&world, &["check", "--offline"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("[one].filter is refused: "), "{told}");
    let world = World::with(config(r#"{"a.b": {"$size": 2}}"#, "")).await;
    let (_, told) = run(&world, &["check", "--offline"]);
    let why = "[one].filter is refused: a.b.$size: $size is not supported; these are: $eq $ne";
    assert!(told.contains(why), "{told}");
}
