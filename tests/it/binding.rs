//! A position is bound to the table and the collection it speaks for: emptied, replaced, dropped or
//! made anew, either is noticed before anything is written, and repaired as what it is.

use devstack::{DocumentDb, Engine, Stack};
use mongodb::bson::{Document, doc};

use crate::support::{Config, Daemon, World, run, stream};

const DOCTORS: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

async fn world(extra: &str) -> World {
    let world = World::with(Config {
        apart: true,
        extra: extra.to_owned(),
        streams: stream("doctor", DOCTORS, ""),
    })
    .await;
    fill(&world, DOCTORS, 0).await;
    world
}

async fn fill(world: &World, collection: &str, round: i32) {
    let documents: Vec<Document> =
        (0..60).map(|n| doc! { "_id": format!("d{n:02}"), "round": round, "n": n }).collect();
    world.collection(collection).insert_many(documents).await.unwrap();
}

/// Follows until table and collection are equal and the stream streams.
async fn followed(world: &World) -> Daemon {
    let daemon = world.start();
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    daemon
}

async fn last_reason(world: &World) -> String {
    world.scalar("select reason from tidemark.resync order by id desc limit 1").await
}

#[tokio::test]
async fn a_table_dropped_emptied_or_restored_while_tidemark_was_down_is_filled_again() {
    let world = world("resync.automatic_per_day_max = 100").await;
    followed(&world).await.stop();
    world.execute("create table public.backup as select * from public.doctor").await;
    world
        .collection(DOCTORS)
        .update_one(doc! { "_id": "d07" }, doc! { "$set": { "n": 700 } })
        .await
        .unwrap();
    followed(&world).await.stop();
    let damages = [
        "drop table public.doctor",
        "truncate public.doctor",
        "delete from public.doctor",
        "truncate public.doctor; insert into public.doctor select * from public.backup",
        "alter table public.doctor rename to aside; create table public.doctor (like public.aside \
         including all)",
        // With all its rows, as far as anybody can tell: it is looked through.
        "create table public.same (like public.doctor including all); insert into public.same \
         select * from public.doctor; drop table public.doctor; alter table public.same rename to \
         doctor",
    ];
    for (round, damage) in damages.into_iter().enumerate() {
        world.execute(damage).await;
        let mut daemon = world.start();
        world.until_equal(DOCTORS, TABLE).await;
        daemon.until_phase("doctor", "streaming").await;
        assert_eq!(last_reason(&world).await, "table_replaced", "{damage}");
        world
            .collection(DOCTORS)
            .update_one(
                doc! { "_id": "d09" },
                doc! { "$set": { "n": 900 + i64::try_from(round).unwrap() } },
            )
            .await
            .unwrap();
        world.until_equal(DOCTORS, TABLE).await;
        assert_eq!(daemon.stop().0, Some(0));
    }
    let walks: i64 = world.scalar("select count(*) from tidemark.resync").await;
    // The same table, rewritten, is no other.
    world.execute("vacuum full public.doctor").await;
    world.collection(DOCTORS).delete_one(doc! { "_id": "d11" }).await.unwrap();
    followed(&world).await.stop();
    assert_eq!(
        world.scalar::<i64>("select count(*) from tidemark.resync").await,
        walks,
        "nothing was to be repaired"
    );
}

#[tokio::test]
async fn a_table_emptied_under_a_running_daemon_is_filled_again() {
    let world = world("").await;
    let daemon = followed(&world).await;
    world.execute("truncate public.doctor").await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(last_reason(&world).await, "table_replaced");
    // Also if an event comes before anybody looks.
    let doctors = world.collection(DOCTORS);
    world.execute("truncate public.doctor").await;
    doctors.update_one(doc! { "_id": "d01" }, doc! { "$set": { "n": 1000 } }).await.unwrap();
    world.until_equal(DOCTORS, TABLE).await;
    // What tidemark deletes itself is missed by nobody.
    let walks: i64 = world.scalar("select count(*) from tidemark.resync").await;
    for n in (0..60).rev() {
        doctors.delete_one(doc! { "_id": format!("d{n:02}") }).await.unwrap();
    }
    world.until("the table is empty", "select count(*) = 0 from public.doctor").await;
    fill(&world, DOCTORS, 1).await;
    world.until_equal(DOCTORS, TABLE).await;
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.resync").await, walks);
}

#[tokio::test]
async fn another_table_in_the_configuration_is_filled() {
    let world = world("").await;
    followed(&world).await.stop();
    let streams =
        format!("[[stream]]\nname = \"doctor\"\ncollection = {DOCTORS:?}\ntable = \"physician\"\n");
    let other = world.beside(&Config { apart: true, streams, ..Config::default() });
    let mut daemon = other.start();
    other.until_equal(DOCTORS, "public.physician").await;
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(last_reason(&world).await, "first_snapshot");
    daemon.stop();
    // Back to the old one, which has missed what came meanwhile.
    world.collection(DOCTORS).insert_one(doc! { "_id": "late" }).await.unwrap();
    let mut daemon = other.start();
    other.until_equal(DOCTORS, "public.physician").await;
    daemon.stop();
    followed(&world).await.stop();
    assert_eq!(last_reason(&world).await, "mapping_changed");
}

#[tokio::test]
async fn a_database_of_the_first_release_is_taken_up_as_it_is() {
    let world = world("").await;
    followed(&world).await.stop();
    // As that release left it: every stream had a position of its own, bound to nothing.
    let left = format!(
        "insert into tidemark.stream_position (stream, source, options, resume_token, token, \
         cluster_time, epoch, revision) select 'doctor', database || '.{DOCTORS}', options, \
         resume_token, token, cluster_time, epoch, revision from tidemark.checkpoint; delete from \
         tidemark.checkpoint; delete from tidemark.lease; delete from tidemark.stream"
    );
    world.execute(&left).await;
    world.collection(DOCTORS).insert_one(doc! { "_id": "late" }).await.unwrap();
    followed(&world).await.stop();
    assert_eq!(
        world.scalar::<i64>("select count(*) from tidemark.resync").await,
        1,
        "only the first snapshot walked"
    );
    let bound: bool = world
        .scalar(
            "select collection_uuid is not null and cluster is not null and witness_id is not \
             null from tidemark.stream",
        )
        .await;
    assert!(bound);
    world.execute(&format!("{left}; truncate public.doctor")).await;
    followed(&world).await.stop();
    assert_eq!(last_reason(&world).await, "table_replaced");
}

/// `$out` and a rename onto the followed collection, over and over.
async fn remade(extra: &str) {
    let world = world(extra).await;
    let daemon = followed(&world).await;
    for round in 1..=5 {
        fill(&world, "made", round).await;
        world.collection("made").insert_one(doc! { "_id": format!("only{round}") }).await.unwrap();
        if round % 2 == 0 {
            let out = [doc! { "$out": DOCTORS }];
            world.collection("made").aggregate(out).await.unwrap();
            world.collection("made").drop().await.unwrap();
        } else {
            let (from, to) = (format!("{}.made", world.name), format!("{}.{DOCTORS}", world.name));
            let rename = doc! { "renameCollection": from, "to": to, "dropTarget": true };
            let admin = world.source.client().database("admin");
            admin.run_command(rename).await.unwrap();
        }
        world.until_equal(DOCTORS, TABLE).await;
        let done = format!(
            "select count(*) = {round} from tidemark.resync where reason = 'collection_recreated' \
             and state = 'completed'"
        );
        world.until("the walk is completed", &done).await;
    }
    daemon.until_phase("doctor", "streaming").await;
    assert!(
        !daemon.phases("doctor").contains(&"halted".to_owned()),
        "{:?}",
        daemon.phases("doctor")
    );
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test]
async fn a_collection_made_anew_time_and_again_is_repaired_each_time_and_never_halts() {
    remade("").await;
}

#[tokio::test]
async fn a_collection_made_anew_is_noticed_where_the_stream_is_the_databases_too() {
    remade(
        "source.heartbeat_collection = \"tidemarkHeartbeat\"\nsource.heartbeat_interval = \"1s\"",
    )
    .await;
}

#[tokio::test]
async fn a_collection_made_anew_while_tidemark_was_down_is_repaired() {
    let world = world("").await;
    followed(&world).await.stop();
    world.collection(DOCTORS).drop().await.unwrap();
    fill(&world, DOCTORS, 3).await;
    followed(&world).await.stop();
    assert_eq!(last_reason(&world).await, "collection_recreated");
}

#[tokio::test]
async fn a_collection_dropped_in_mid_resync_loses_no_row() {
    let extra =
        "resync.documents_per_second_max = 20\nresync.chunk_documents = 10\nbatch.events_max = 10";
    let world = world(extra).await;
    let more: Vec<Document> = (0..30).map(|n| doc! { "_id": format!("e{n}") }).collect();
    world.collection(DOCTORS).insert_many(more).await.unwrap();
    let daemon = followed(&world).await;
    assert_eq!(run(&world, &["resync", "doctor", "--reason", "look", "--execute"]).0, Some(0));
    // By the walk's own account, which stays when it has ended.
    let walked = "select documents_read >= 20 from tidemark.resync where reason = 'requested'";
    world.until("a part is walked", walked).await;
    world.collection(DOCTORS).drop().await.unwrap();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert_eq!(halted["halt_code"], "source_dropped", "{halted}");
    // Looked at again and again, nothing is concluded from nothing.
    let tries = halted["failures"].as_u64().unwrap() + 2;
    daemon
        .until("doctor", "was looked at again", |s| s["failures"].as_u64().unwrap() >= tries)
        .await;
    assert_eq!(world.scalar::<i64>("select count(*) from public.doctor").await, 90);
    fill(&world, DOCTORS, 0).await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(last_reason(&world).await, "collection_recreated");
}

#[tokio::test]
async fn a_view_is_said_to_be_one_at_once_and_stops_no_other_stream() {
    let streams = format!("{}{}", stream("doctor", DOCTORS, ""), stream("seen", "view", ""));
    let world = World::with(Config { apart: true, streams, ..Config::default() }).await;
    fill(&world, DOCTORS, 0).await;
    let view = doc! { "create": "view", "viewOn": DOCTORS, "pipeline": [] };
    world.source.run_command(view).await.unwrap();
    let daemon = world.start();
    let halted = daemon.until_phase("seen", "halted").await;
    assert_eq!(halted["halt_code"], "source_misconfigured", "{halted}");
    assert!(halted["reason"].as_str().unwrap().contains("is a view"), "{halted}");
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    let summary = "select summary from tidemark.incident where code = 'source_misconfigured'";
    world.until("it is told", &format!("select count(*) = 1 from ({summary}) as s")).await;
    let summary: String = world.scalar(summary).await;
    assert!(summary.contains("seen") && !summary.contains("doctor:"), "{summary}");
}

#[tokio::test]
async fn a_sharded_source_is_refused_in_a_plain_sentence() {
    let engine = Engine { mongos: true, ..Engine::default() };
    let mongos = DocumentDb::before(Stack::shared().mongo.port(), engine).unwrap();
    let database = Stack::shared().postgres.database().await.unwrap();
    let config =
        Config { apart: true, streams: stream("doctor", DOCTORS, ""), ..Config::default() };
    let world = World::of(&mongos.uri(), &Stack::shared().postgres.url(&database), config).await;
    let (_, told) = run(&world, &["migrate"]);
    let (code, checked) = run(&world, &["check"]);
    assert!(
        code == Some(1) && checked.contains("sharded sources are not supported yet"),
        "{told}{checked}"
    );
    let daemon = world.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert!(halted["reason"].as_str().unwrap().contains("sharded"), "{halted}");
    assert_eq!(world.scalar::<i64>("select count(*) from public.doctor").await, 0);
}

/// While tidemark is down, documents come, change and go, and then another collection is renamed
/// onto the followed one: its documents are told of by no event, and those of the one before by
/// events that come before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_to_the_collection_before_is_not_applied_to_the_one_that_took_its_place() {
    let streams = stream("doctor", DOCTORS, "") + &stream("other", "other", "");
    let extra = "resync.automatic_per_day_max = 100".to_owned();
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    fill(&world, DOCTORS, 0).await;
    fill(&world, "other", 0).await;
    followed(&world).await.stop();
    let doctors = world.collection(DOCTORS);
    for round in 1..=4 {
        let old = (0..20).map(|n| doc! { "_id": format!("old{round}-{n}") });
        doctors.insert_many(old).await.unwrap();
        doctors.delete_many(doc! { "n": { "$lt": 20 } }).await.unwrap();
        let set = doc! { "$set": { "round": -round } };
        doctors.update_many(doc! { "n": { "$gte": 40 } }, set).await.unwrap();
        fill(&world, "made", 0).await;
        if round % 2 == 0 {
            let (from, to) = (format!("{}.made", world.name), format!("{}.{DOCTORS}", world.name));
            let rename = doc! { "renameCollection": from, "to": to, "dropTarget": true };
            world.source.client().database("admin").run_command(rename).await.unwrap();
        } else {
            doctors.drop().await.unwrap();
            fill(&world, DOCTORS, 0).await;
            world.collection("made").drop().await.unwrap();
        }
        let mut daemon = followed(&world).await;
        let done = format!(
            "select count(*) = {round} from tidemark.resync where reason = 'collection_recreated' \
             and state = 'completed'"
        );
        world.until("the walk is completed", &done).await;
        let late = doc! { "$set": { "late": round } };
        world.collection("other").update_one(doc! { "_id": "d00" }, late).await.unwrap();
        world.until_equal("other", "public.other").await;
        world.until_equal(DOCTORS, TABLE).await;
        daemon.stop();
    }
}
