//! Releases beside each other: an older one on tables that a newer one has migrated.

use std::process::{Child, Command, Stdio};

use mongodb::bson::doc;

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
    let world =
        World::with(Config { streams: stream("doctor", COLLECTION, ""), ..Config::default() })
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
            "format 1 is asked for, this release knows 1, and 1 migration(s) of a newer one"
        ),
        "{told}"
    );
    let (code, told) = run(&world, &["migrate"]);
    assert!(code == Some(0) && told.contains("nothing to do"), "{told}");

    // It raises the floor: this one says that it is too old, and goes on if that is taken back.
    daemon.stop();
    world.execute("update tidemark.release set format_min = 2").await;
    let daemon = world.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "target_schema_mismatch");
    let sentence = "this release is too old for the tables in schema tidemark: they ask for format \
                    2, and it knows 1";
    assert!(halted["reason"].as_str().unwrap().contains(sentence), "{halted:#}");
    for command in ["check", "migrate"] {
        let (code, told) = run(&world, &[command]);
        assert!(code == Some(78) && told.contains(sentence), "{told}");
    }
    world.execute("update tidemark.release set format_min = 1").await;
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(world.until_equal(COLLECTION, TABLE).await, 3);
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

/// What CI runs for the last release: it leads first, beside this one, and alone after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "wants the binary of the last release in TIDEMARK_PREVIOUS"]
async fn the_last_release_works_on_the_tables_of_this_one() {
    let world =
        World::with(Config { streams: stream("doctor", COLLECTION, ""), ..Config::default() })
            .await;
    let doctors = world.collection(COLLECTION);
    let mut id = 0;
    let mut next = async || {
        id += 1;
        doctors.insert_one(doc! { "_id": id }).await.unwrap();
        let found = world.until_equal(COLLECTION, TABLE).await;
        assert_eq!(i32::try_from(found).unwrap(), id);
    };
    let previous = Previous::start(&world);
    next().await;
    let mut daemon = world.start();
    let (code, told) = run(&world, &["migrate"]);
    assert_eq!(code, Some(0), "{told}");
    // Both are there, the older one leads, on the newer one's tables.
    next().await;
    drop(previous);
    daemon.until_phase("doctor", "streaming").await;
    next().await;
    daemon.stop();
    // Back.
    let _previous = Previous::start(&world);
    next().await;
}
