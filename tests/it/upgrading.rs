//! Releases after and beside each other: an older one on tables that a newer one has migrated, and
//! what an older one left.

use std::fmt::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};

use crate::changing::{Load, fill, of, until_equal, until_streaming, walks};
use crate::support::{Config, World, run, stream};

const COLLECTION: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

/// As a newer release would: it adds, and this one knows nothing of it.
const NEWER: &str = "alter table tidemark.command add column of_the_future text; create table \
                     tidemark.future (id bigint); insert into tidemark._sqlx_migrations (version, \
                     description, success, checksum, execution_time) values (9001, 'future', true, \
                     'x', 0)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_runs_on_tables_that_a_newer_one_added_to_and_says_where_it_is_too_old() {
    let world = World::with(Config {
        apart: true,
        streams: stream("doctor", COLLECTION, ""),
        ..Config::default()
    })
    .await;
    world.collection(COLLECTION).insert_one(doc! { "_id": 1 }).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    // The newer one comes while this one runs, and stays when it starts anew.
    world.execute(NEWER).await;
    world.collection(COLLECTION).insert_one(doc! { "_id": 2 }).await.unwrap();
    assert_eq!(world.until_equal(COLLECTION, TABLE).await, 2);
    daemon.stop();
    let mut daemon = world.start();
    world.collection(COLLECTION).insert_one(doc! { "_id": 3 }).await.unwrap();
    assert_eq!(world.until_equal(COLLECTION, TABLE).await, 3);
    let (code, told) = run(&world, &["resync", "doctor", "--reason", "test", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains(
            "format 2 is asked for, this release knows 2, and 1 migration(s) of a newer one"
        ),
        "{told}"
    );
    let (code, told) = run(&world, &["migrate"]);
    assert!(code == Some(0) && told.contains("nothing to do"), "{told}");

    // It raises the floor: this one says that it is too old, and goes on if that is taken back.
    daemon.stop();
    world.execute("update tidemark.release set format_min = 3").await;
    let daemon = world.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "target_schema_mismatch");
    let sentence = "this release is too old for the tables in schema tidemark: they ask for format \
                    3, and it knows 2";
    assert!(halted["reason"].as_str().unwrap().contains(sentence), "{halted:#}");
    for command in ["check", "migrate"] {
        let (code, told) = run(&world, &[command]);
        assert!(code == Some(78) && told.contains(sentence), "{told}");
    }
    world.execute("update tidemark.release set format_min = 2").await;
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(world.until_equal(COLLECTION, TABLE).await, 3);
}

/// A token of a change stream on the collection alone, as 0.1 opened it: of an event, or of a reply
/// that was empty.
async fn token_on_the_collection(world: &World, of_an_event: bool) -> Document {
    let doctors = world.collection(COLLECTION);
    let mut stream = doctors.watch().await.unwrap();
    let written = if of_an_event { &doctors } else { &world.collection("others") };
    // The first is a tick past the newest entry of the oplog, and of no entry.
    let first = stream.resume_token();
    loop {
        // Of a document that is changed again after it.
        let set = doc! { "$set": { "at": ObjectId::new() } };
        written.update_one(doc! { "_id": 0 }, set).upsert(true).await.unwrap();
        let event = stream.next_if_any().await.unwrap();
        let Some(token) = stream.resume_token().filter(|token| Some(token) != first.as_ref())
        else {
            continue;
        };
        let token = mongodb::bson::serialize_to_document(&token).unwrap();
        // Seen on MongoDB 6.0.5: what an empty reply's token has after its time.
        let is_empty = token.get_str("_data").unwrap()[18..].starts_with("2B0229");
        if of_an_event && event.is_some() || !of_an_event && is_empty {
            return token;
        }
    }
}

#[tokio::test]
async fn a_position_of_a_collections_change_stream_is_taken_up_whatever_the_mode_of_images() {
    let world =
        World::with(Config { streams: stream("doctor", COLLECTION, ""), ..Config::default() })
            .await;
    let doctors = world.collection(COLLECTION);
    for n in 0..20 {
        doctors.insert_one(doc! { "_id": n, "round": 0 }).await.unwrap();
    }
    let images = doc! { "collMod": COLLECTION, "changeStreamPreAndPostImages": { "enabled": true }};
    world.source.run_command(images).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.stop();
    let modes = ["lookup", "when_available", "required"];
    for (round, (before, now)) in
        modes.iter().flat_map(|before| modes.map(|now| (before, now))).enumerate()
    {
        let round = i32::try_from(round).unwrap();
        let token = token_on_the_collection(&world, round % 2 == 0).await;
        let text = token.get_str("_data").unwrap();
        let time = u64::from_str_radix(&text[2..18], 16).unwrap();
        let bytes = token.to_vec().unwrap().iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        world
            .execute(&format!(
                "update tidemark.checkpoint set resume_token = '\\x{bytes}', token = '{text}', \
                 cluster_time = {time}, options = 'v1 post_image={before}'"
            ))
            .await;
        let set = doc! { "$set": { "round": round + 1 } };
        doctors.update_many(doc! { "_id": { "$lt": 10 } }, set).await.unwrap();
        doctors.delete_one(doc! { "_id": 10 + round }).await.unwrap();
        let streams = stream("doctor", COLLECTION, &format!("post_image = {now:?}"));
        let other = world.beside(&Config { streams, ..Config::default() });
        let mut daemon = other.start();
        other.until_equal(COLLECTION, TABLE).await;
        daemon.until_phase("doctor", "streaming").await;
        let phases = daemon.phases("doctor");
        assert!(!phases.contains(&"halted".to_owned()), "{before}, {now}: {phases:?}");
        daemon.stop();
    }
    let walks: i64 = world.scalar("select count(*) from tidemark.resync").await;
    assert_eq!(walks, 1, "only the first snapshot walked");
}

/// Ended when dropped.
struct Previous(Child);

impl Previous {
    fn start(world: &World) -> Self {
        let binary = std::env::var("TIDEMARK_PREVIOUS").unwrap();
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(&world.config);
        Self(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Previous {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Its documents are all there, and only their first snapshots were walked.
async fn is_taken_over(world: &World) {
    until_equal(world, &["one", "two"]).await;
    let walks = walks(world).await;
    assert!(walks.values().all(|reasons| reasons == "first_snapshot"), "{walks:?}");
}

/// What CI runs for the release before: it follows under load, and this one takes over its tables
/// and its places, after a kill, after an end in good order, and while it still runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "wants the binary of the last release in TIDEMARK_PREVIOUS"]
async fn what_the_last_release_followed_is_taken_over_under_load() {
    for end in ["KILL", "TERM", "runs on"] {
        let world = World::with(of(&[("one", ""), ("two", "")])).await;
        for name in ["one", "two"] {
            fill(&world, name).await;
        }
        let load = Load::of(&world, &["one", "two"]);
        let mut previous = Previous::start(&world);
        let walked = "select count(*) = 2 and bool_and(state = 'completed') from tidemark.resync";
        world.until("the release before follows", walked).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        if end != "runs on" {
            devstack::signal(previous.0.id(), end).unwrap();
            previous.0.wait().unwrap();
        }
        let daemon = world.start();
        until_streaming(&daemon, &["one", "two"]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        load.end().await;
        is_taken_over(&world).await;
        for name in ["one", "two"] {
            daemon.until(name, "is exact", |s| s["exact"] == true).await;
        }
        let places: i64 = world.scalar("select count(*) from tidemark.stream_position").await;
        assert_eq!(places, 0, "{end}: the group has begun");
    }
}
