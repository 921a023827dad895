//! Guarantees 15 and 16 of a group at rest and at work: one change stream, one lease, one position,
//! one transaction, however many collections.

use std::time::Duration;

use devstack::{Mongo, MongoOptions, Stack};
use mongodb::bson::{Document, doc};
use mongodb::{ClientSession, Collection};

use crate::support::{Config, Daemon, World, eventually, run, source, state, stream};

const NAMES: [&str; 3] = ["ward", "bed", "patient"];

/// A stream a collection; of a group of their own, those said to be.
fn streams(apart: &[&str]) -> String {
    let column = "column = [ { name = \"round\", field = \"round\", type = \"integer\" } ]";
    let each = NAMES.map(|name| {
        let group = if apart.contains(&name) { "group = \"other\"\n" } else { "" };
        stream(name, name, &format!("{group}{column}"))
    });
    each.concat()
}

async fn fill(world: &World) {
    for name in NAMES {
        let documents = (0..10).map(|n| doc! { "_id": n, "round": 0 });
        world.collection(name).insert_many(documents).await.unwrap();
    }
}

async fn followed(world: &World) -> Daemon {
    fill(world).await;
    let daemon = world.start();
    for name in NAMES {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
    daemon
}

/// So many leases, positions and change streams there are: on a busy machine a lease may run out,
/// and a change stream be opened anew, and each is there again.
async fn until_led(world: &World, groups: usize) {
    let rows = format!(
        "select ((select count(*) from tidemark.lease where expires_at > now()), (select count(*) \
         from tidemark.checkpoint)) = ({groups}, {groups})"
    );
    world.until("leases and positions", &rows).await;
    let opened = async || source::change_streams(world).await == groups;
    eventually("change streams", opened).await;
}

/// A source transaction over all three: an update, a replacement, an insert and a delete.
async fn change(session: &mut ClientSession, world: &World, round: i32) {
    let [ward, bed, patient]: [Collection<Document>; 3] = NAMES.map(|name| world.collection(name));
    session.start_transaction().await.unwrap();
    let set = doc! { "$set": { "round": round } };
    ward.update_one(doc! { "_id": round % 10 }, set).session(&mut *session).await.unwrap();
    let replacement = doc! { "round": round };
    bed.replace_one(doc! { "_id": round % 10 }, replacement).session(&mut *session).await.unwrap();
    let inserted = doc! { "_id": 100 + round, "round": round };
    patient.insert_one(inserted).session(&mut *session).await.unwrap();
    patient.delete_one(doc! { "_id": 99 + round }).session(&mut *session).await.unwrap();
    session.commit_transaction().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_a_group_change_in_one_transaction_under_one_lease_and_one_position() {
    let world = World::with(Config { streams: streams(&[]), ..Config::default() }).await;
    let daemon = followed(&world).await;
    let mut session = world.source.client().start_session().await.unwrap();
    for round in 1..=20 {
        change(&mut session, &world, round).await;
        let written = NAMES.map(|name| format!("select xmin from {name} where round = {round}"));
        let written = written.join(" union all ");
        let whole = format!("select count(*) = 3 from ({written}) as rows");
        world.until("the transaction is there", &whole).await;
        let transactions = format!("select count(distinct xmin::text) from ({written}) as rows");
        assert_eq!(world.scalar::<i64>(&transactions).await, 1, "round {round}");
    }
    until_led(&world, 1).await;
    let told = "select (count(*), count(distinct (\"group\", cluster_time, token)), \
                bool_and(exact)) = (3, 1, true) from tidemark.position";
    world.until("three streams are exact at one position", told).await;
    for name in NAMES {
        let is_exact =
            |status: &serde_json::Value| status["group"] == "main" && status["exact"] == true;
        daemon.until(name, "is exact in its group", is_exact).await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_group_has_a_lease_a_position_and_a_change_stream_of_its_own() {
    let world = World::with(Config { streams: streams(&["patient"]), ..Config::default() }).await;
    let mut daemon = followed(&world).await;
    until_led(&world, 2).await;
    assert_eq!(daemon.stream("patient").await["group"], "other");
    // Any name makes a group, a slip, too.
    for asked in [&["check"][..], &["check", "--offline"]] {
        let (code, told) = run(&world, asked);
        assert!(code == Some(0) && told.contains("no [[group]] names other: "), "{told}");
    }
    // What one group loses is no loss to the other.
    daemon.stop();
    state::lose_position(&world, "patient").await;
    world.collection("ward").insert_one(doc! { "_id": 50, "round": 1 }).await.unwrap();
    world.collection("patient").insert_one(doc! { "_id": 50, "round": 1 }).await.unwrap();
    let daemon = world.start();
    for name in NAMES {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
    let walks =
        world.column("select stream || ' ' || count(*) from tidemark.resync group by stream").await;
    let walks: std::collections::BTreeSet<String> = walks.into_iter().collect();
    assert_eq!(walks, ["bed 1", "patient 2", "ward 1"].map(str::to_owned).into());
}

/// The story the software was born from, by construction: no position of a silent collection is
/// there to age, and no idle commit is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_collection_keeps_its_place_by_its_neighbours_without_an_idle_commit() {
    let mongo = Mongo::start(&MongoOptions::small_oplog()).unwrap();
    let postgres = &Stack::shared().postgres;
    let url = postgres.url(&postgres.database().await.unwrap());
    let extra = "checkpoint.idle_interval = \"1h\"\n".to_owned();
    let world =
        World::of(&mongo.uri(), &url, Config { extra, streams: streams(&[]), ..Config::default() })
            .await;
    let daemon = followed(&world).await;
    world.collection("patient").insert_one(doc! { "_id": 60, "round": 1 }).await.unwrap();
    world.until_equal("patient", "public.patient").await;

    let stop = tokio_util::sync::CancellationToken::new();
    let (beds, told) = (world.collection("bed"), stop.clone());
    let moving = tokio::spawn(async move {
        let mut round = 1;
        while !told.is_cancelled() {
            let set = doc! { "$set": { "round": round } };
            beds.update_one(doc! { "_id": round % 10 }, set).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            round += 1;
        }
    });
    let followed = async || state::until_young(&world, "patient").await;
    mongo.roll_oplog_gently(3, followed).await.unwrap();
    daemon.kill();
    stop.cancel();
    moving.await.unwrap();

    world.collection("patient").insert_one(doc! { "_id": 61, "round": 1 }).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("patient", "streaming").await;
    for name in NAMES {
        world.until_equal(name, &format!("public.{name}")).await;
    }
    let walks: i64 = world.scalar("select count(*) from tidemark.resync").await;
    assert_eq!(walks, 3, "only the first snapshots ever walked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_fills_two_schemas_from_two_databases_and_two_tables_from_one_collection() {
    let archived = "group = \"archive\"\ntable = \"ward\"\n";
    let streams = format!(
        "[[group]]\nname = \"archive\"\ndatabase = \"{{archive}}\"\nschema = \"archive\"\n{}{}{}",
        stream("ward", "ward", ""),
        stream("ward_too", "ward", ""),
        stream("old_ward", "ward", "").replace("table = \"old_ward\"\n", archived),
    );
    let world = World::with(Config::default()).await;
    let archive = format!("{}_archive", world.name);
    let streams = streams.replace("{archive}", &archive);
    let world = world.beside(&Config { streams, ..Config::default() });
    let archive = world.source.client().database(&archive);
    let wards = archive.collection::<Document>("ward");
    world.collection("ward").insert_many((0..10).map(|n| doc! { "_id": n })).await.unwrap();
    wards.insert_many((100..120).map(|n| doc! { "_id": n })).await.unwrap();
    let daemon = world.start();
    for name in ["ward", "ward_too", "old_ward"] {
        daemon.until_phase(name, "streaming").await;
    }
    world.collection("ward").insert_one(doc! { "_id": 10 }).await.unwrap();
    wards.delete_one(doc! { "_id": 100 }).await.unwrap();
    wards.insert_one(doc! { "_id": 121 }).await.unwrap();
    assert_eq!(world.until_equal("ward", "public.ward").await, 11);
    assert_eq!(world.until_equal("ward", "public.ward_too").await, 11);
    let mut pg = world.pg().await;
    let equal = async || {
        let found = devstack::compare(&archive, "ward", &mut pg, "archive.ward").await.unwrap();
        found.is_equal() && found.documents == 20
    };
    eventually("the archive's table is equal", equal).await;
    let status = daemon.stream("old_ward").await;
    assert_eq!(status["table"], "archive.ward");
    assert_eq!(status["source"], format!("{}.ward", archive.name()));
    // Whoever looks, looks at the database of the stream's group.
    let (code, told) = run(&world, &["compare", "old_ward"]);
    assert_eq!(code, Some(0), "{told}");
    let (code, told) = run(&world, &["check"]);
    assert_eq!(code, Some(0), "{told}");
    let opens = format!("change stream of {}.ward", archive.name());
    assert!(told.contains(&opens) && told.contains("opens on 2 collections"), "{told}");
    archive.drop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_can_wait_until_a_table_shows_a_time() {
    let world = World::with(Config { streams: streams(&[]), ..Config::default() }).await;
    let mut daemon = followed(&world).await;
    world.collection("bed").insert_one(doc! { "_id": 70, "round": 7 }).await.unwrap();
    let now = chrono::Utc::now().to_rfc3339();
    let (code, told) = run(&world, &["wait", "bed", "--for", &now, "--timeout", "60s"]);
    assert_eq!(code, Some(0), "{told}");
    let shown = "select count(*) from public.bed where round = 7";
    assert_eq!(world.scalar::<i64>(shown).await, 1);
    // By a configuration that no process follows yet, it is in a group that is ahead.
    daemon.until_phase("patient", "streaming").await;
    daemon.stop();
    let moved = world.beside(&Config { streams: streams(&["bed"]), ..Config::default() });
    world.collection("bed").insert_one(doc! { "_id": 71, "round": 8 }).await.unwrap();
    let ahead = "insert into tidemark.checkpoint select (jsonb_populate_record(c, \
                 jsonb_build_object('group', 'other', 'cluster_time', c.cluster_time + (1::bigint \
                 << 40)))).* from tidemark.checkpoint as c where c.\"group\" = 'main'";
    world.execute(ahead).await;
    let now = chrono::Utc::now().to_rfc3339();
    let (code, told) = run(&moved, &["wait", "bed", "--for", &now, "--timeout", "1s"]);
    assert_eq!(code, Some(75), "{told}");
    let later = (chrono::Utc::now() + chrono::TimeDelta::minutes(5)).to_rfc3339();
    let (code, told) = run(&world, &["wait", "bed", "--for", &later, "--timeout", "1s"]);
    assert_eq!(code, Some(75), "{told}");
    let (code, told) = run(&world, &["wait", "bed", "--for", "yesterday"]);
    assert!(code == Some(2) && told.contains("SECONDS.INCREMENT"), "{told}");
}
