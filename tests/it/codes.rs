//! Every code a source answers with, at open and in mid-stream, does exactly what its class says:
//! from a real mongod's failpoint, and, where the text decides, from the stand-in for `DocumentDB`.

use devstack::{DocumentDb, Engine, Mongo, Stack};
use mongodb::bson::{Bson, doc};

use crate::support::{Config, Daemon, World, stream};

const DOCTORS: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

const TRANSIENT: [i32; 32] = [
    6, 7, 43, 63, 70, 89, 91, 117, 133, 134, 150, 175, 189, 202, 216, 234, 237, 249, 262, 317, 358,
    9001, 10_107, 11_600, 11_601, 11_602, 13_388, 13_435, 13_436, 17_287, 50, 26,
];

const LOST: [i32; 8] = [286, 260, 464, 40_576, 40_615, 40_647, 40_648, 50_811];

const A_PERSON: [(i32, &str); 8] = [
    (13, "source_unauthorised"),
    (18, "source_unauthorised"),
    (8_000, "source_unauthorised"),
    (20, "source_misconfigured"),
    (40_573, "source_misconfigured"),
    (40_415, "source_misconfigured"),
    (40_324, "source_misconfigured"),
    // In no table: patience, then a person.
    (99_999, "source_unreachable"),
];

fn config() -> Config {
    let extra = "retry.escalate_after = \"2s\"\nretry.delay_min = \"20ms\"\nretry.delay_max \
                 = \"300ms\"\nresync.automatic_per_day_max = 1000";
    Config { extra: extra.to_owned(), streams: stream("doctor", DOCTORS, ""), ..Config::default() }
}

/// In mid-stream the getMore fails; at open the aggregate after it, too.
const PLACES: [&[&str]; 2] = [&["getMore"], &["getMore", "aggregate"]];

async fn fail(mongo: &Mongo, world: &World, mode: Bson, commands: &[&str], code: i32) {
    let commands: Vec<String> = commands.iter().map(|c| (*c).to_owned()).collect();
    let data = doc! { "failCommands": commands, "appName": &world.name, "errorCode": code };
    let command = doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data };
    mongo.client().await.unwrap().database("admin").run_command(command).await.unwrap();
    // Ends the getMore that is waiting for an event now: the next one fails.
    world.collection(DOCTORS).insert_one(doc! { "_id": devstack::unique("poke") }).await.unwrap();
}

async fn resyncs(world: &World) -> i64 {
    world.scalar("select count(*) from tidemark.resync where reason <> 'first_snapshot'").await
}

async fn retries(daemon: &Daemon) -> f64 {
    let mut all = 0.0;
    for step in ["open", "read"] {
        all += daemon
            .metric(&format!("tidemark_retries_total{{step=\"{step}\",stream=\"doctor\"}}"))
            .await;
    }
    all
}

/// Goes on by itself, and a change made now arrives.
async fn goes_on(world: &World, daemon: &Daemon, what: &str) {
    // An event is the quickest proof; an empty answer comes a second later.
    world.collection(DOCTORS).insert_one(doc! { "_id": devstack::unique(what) }).await.unwrap();
    daemon
        .until("doctor", &format!("goes on after {what}"), |s| {
            s["phase"] == "streaming" && s["retrying"] == 0 && s["halt_code"].is_null()
        })
        .await;
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test]
async fn every_code_at_open_and_in_mid_stream_does_what_its_class_says() {
    let world = World::with(config()).await;
    let mongo = &Stack::shared().mongo;
    world.collection(DOCTORS).insert_one(doc! { "_id": "first" }).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    for commands in PLACES {
        for code in TRANSIENT {
            let before = retries(&daemon).await;
            fail(mongo, &world, doc! { "times": 2 }.into(), commands, code).await;
            let what = format!("{code} at {commands:?}");
            daemon
                .until_metric("tried again", async || retries(&daemon).await >= before + 2.0)
                .await;
            goes_on(&world, &daemon, &what).await;
            // Where the driver has to look for the primary again, that may fail once, too.
            let attempts = retries(&daemon).await - before;
            assert!(
                (2.0..=4.0).contains(&attempts),
                "{what}: {attempts} attempts after two failures"
            );
        }
        assert_eq!(resyncs(&world).await, 0, "no transient code started a resync");
        for (code, halt_code) in A_PERSON {
            fail(mongo, &world, "alwaysOn".into(), commands, code).await;
            let halted = daemon
                .until("doctor", &format!("halted by {code} at {commands:?}"), |s| {
                    s["halt_code"] == halt_code
                })
                .await;
            assert_eq!(halted["phase"], "halted");
            fail(mongo, &world, "off".into(), commands, code).await;
            goes_on(&world, &daemon, &format!("{code}")).await;
        }
        assert_eq!(
            resyncs(&world).await,
            0,
            "no authorisation failure and no misconfiguration started a resync"
        );
    }
    for (done, (commands, code)) in
        PLACES.iter().flat_map(|place| LOST.map(|code| (place, code))).enumerate()
    {
        // Refused, asked once more, refused: then the ladder goes on.
        fail(mongo, &world, doc! { "times": 2 }.into(), commands, code).await;
        let expected = i64::try_from(done).unwrap() + 1;
        world
            .until(
                &format!("{code} starts one resync"),
                &format!("select count(*) = {expected} from tidemark.gap_report"),
            )
            .await;
        goes_on(&world, &daemon, &format!("{code}")).await;
        assert_eq!(resyncs(&world).await, expected, "{code} at {commands:?}: exactly one resync");
    }
    fail(mongo, &world, doc! { "times": 1 }.into(), PLACES[0], 286).await;
    goes_on(&world, &daemon, "one refusal").await;
    let losses = i64::try_from(PLACES.len() * LOST.len()).unwrap();
    assert_eq!(resyncs(&world).await, losses, "a refusal that is not repeated starts nothing");
}

/// A `DocumentDB` before the shared mongod, and a world over it.
async fn documentdb(engine: Engine, extra: &str) -> (DocumentDb, World) {
    let stack = Stack::shared();
    let documentdb = DocumentDb::before(stack.mongo.port(), engine).unwrap();
    let database = stack.postgres.database().await.unwrap();
    let config = config();
    let config = Config { extra: format!("{}\n{extra}", config.extra), ..config };
    let world = World::of(&documentdb.uri(), &stack.postgres.url(&database), config).await;
    (documentdb, world)
}

/// What DocumentDB says when history is lost: of the code alone, each may mean something else.
const SAID_OF_LOST: [(i32, &str); 4] = [
    (
        136,
        "CappedPositionLost: CollectionScan died due to position in capped collection being \
         deleted",
    ),
    (9, "Invalid resume token"),
    (
        280,
        "Error on remote shard :: caused by :: cannot resume stream; the resume token was not \
         found.",
    ),
    (
        1,
        "Resume of change stream was not possible, as the resume point may no longer be in the \
         oplog.",
    ),
];

#[tokio::test]
async fn where_the_text_decides_it_is_read() {
    let (documentdb, world) = documentdb(Engine::default(), "").await;
    world.collection(DOCTORS).insert_one(doc! { "_id": "first" }).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let of_its_own = |s: &serde_json::Value| {
        let token = s["position"]["resume_token"].as_str();
        token.is_some_and(|token| token.starts_with("01"))
    };
    daemon.until("doctor", "has a position of its own kind", of_its_own).await;
    // From configuration: the oplog may not be read.
    let configured = |s: &serde_json::Value| s["history_window_seconds"] == 10_800.0;
    daemon.until("doctor", "has the window that is configured", configured).await;

    let mut expected = 0;
    for place in ["getMore", "aggregate"] {
        for (code, message) in SAID_OF_LOST {
            expected += 1;
            documentdb.refuse("getMore", code, message);
            documentdb.refuse("aggregate", code, message);
            if place == "getMore" {
                // The position is found again at open, and refused again in mid-stream.
                documentdb.forget_refusals();
                documentdb.refuse("getMore", code, message);
                documentdb.refuse("getMore", code, message);
            }
            world
                .until(
                    &format!("{code} starts one resync"),
                    &format!("select count(*) = {expected} from tidemark.gap_report"),
                )
                .await;
            goes_on(&world, &daemon, &format!("{code}")).await;
            assert_eq!(resyncs(&world).await, expected);
        }
    }

    documentdb.enable(false);
    documentdb.refuse(
        "getMore",
        136,
        "modifyChangeStreams has not been run for this collection/database",
    );
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_misconfigured", "136 has two meanings");
    let (begun, asked) = (std::time::Instant::now(), documentdb.opened());
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let (opened, seconds) = (documentdb.opened() - asked, begun.elapsed().as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    let rate = opened as f64 / seconds;
    assert!(rate < 10.0, "probed slowly: {opened} in {seconds:.1} seconds");
    documentdb.enable(true);
    goes_on(&world, &daemon, "enabled").await;

    documentdb.refuse("getMore", 2, "Too many cursors are open: too many cursors");
    goes_on(&world, &daemon, "cursors").await;
    documentdb.refuse(
        "getMore",
        280,
        "the resume token has no _id: Encountered an event whose _id field is missing",
    );
    goes_on(&world, &daemon, "no_id").await;
    assert_eq!(resyncs(&world).await, expected, "nothing else started one");
}

#[tokio::test]
async fn without_post_batch_tokens_a_heartbeat_keeps_idle_positions_moving() {
    let engine = Engine { without_post_batch_token: true, ..Engine::default() };
    let extra = "source.heartbeat_collection = \"tidemarkHeartbeat\"\nsource.heartbeat_interval \
                 = \"300ms\"";
    let (_documentdb, world) = documentdb(engine.clone(), extra).await;
    world.collection(DOCTORS).insert_one(doc! { "_id": "first" }).await.unwrap();
    let daemon = world.start();
    let first = daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon
        .until("doctor", "moves though nothing happens", |s| {
            s["position"]["resume_token"] != first["position"]["resume_token"]
                && s["events_received"] == 0
        })
        .await;
    let rows: i64 = world.scalar("select count(*) from public.doctor").await;
    assert_eq!(rows, 1, "heartbeats are no rows");
    goes_on(&world, &daemon, "heartbeats").await;

    let (_documentdb, bare) = self::documentdb(engine, "").await;
    let (code, told) = crate::support::run(&bare, &["migrate"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = crate::support::run(&bare, &["check"]);
    assert!(code == Some(1) && told.contains("source.heartbeat_collection"), "{told}");
    let daemon = bare.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert!(halted["reason"].as_str().unwrap().contains("no first position"), "{halted}");
}
