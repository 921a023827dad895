//! Positions lost in Postgres are told from one another and repaired; positions are shown, archived
//! and moved back.

use mongodb::bson::doc;

use crate::support::{Config, World, eventually, run, state, stream};

const DOCTORS: &str = "doctorsForDB";
const TABLE: &str = "public.doctor";

async fn world() -> World {
    let extra = "resync.automatic_per_day_max = 100".to_owned();
    let streams = format!(
        "{}\n{}",
        stream("doctor", DOCTORS, ""),
        stream("recommendation", "recommendation", "group = \"other\"")
    );
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    for n in 0..50 {
        world.collection(DOCTORS).insert_one(doc! { "_id": format!("d{n}") }).await.unwrap();
    }
    world.collection("recommendation").insert_one(doc! { "_id": "r" }).await.unwrap();
    world
}

/// How a position is damaged, and the reason of the resync that repairs it; `None` where nothing is
/// lost.
fn damages() -> [(String, Option<&'static str>); 9] {
    let damage = |set| state::damage(set, "doctor");
    let token = ["resume_token", "token"];
    [
        (damage("resume_token = 'garbage'"), Some("position_unreadable")),
        (damage("resume_token = null"), Some("position_empty")),
        (damage("resume_token = '\\x2a'"), Some("position_unreadable")),
        // BSON, but {"_data": 42} and {"_data": "nonsense"}: for the server to tell.
        (damage("resume_token = '\\x10000000105f64617461002a00000000'"), Some("history_lost")),
        (damage("cluster_time = null"), Some("position_empty")),
        (damage("options = 'v0'"), Some("options_changed")),
        (damage("database = 'elsewhere'"), Some("position_foreign")),
        (
            format!("delete from tidemark.checkpoint where {}", state::of("doctor")),
            Some("position_missing"),
        ),
        // Another group's token under this one's name: the server may take it; then nothing is
        // lost.
        (state::mix_up(&token, "doctor", "recommendation"), None),
    ]
}

#[tokio::test]
async fn a_position_lost_in_postgres_is_reported_as_what_it_is_and_healed() {
    let world = world().await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.until_phase("recommendation", "streaming").await;
    daemon.stop();

    for (index, (damage, reason)) in damages().into_iter().enumerate() {
        world.execute(&damage).await;
        world.collection(DOCTORS).delete_one(doc! { "_id": format!("d{index}") }).await.unwrap();
        world.collection(DOCTORS).insert_one(doc! { "_id": format!("new{index}") }).await.unwrap();
        let mut daemon = world.start();
        world.until_equal(DOCTORS, TABLE).await;
        daemon.until_phase("doctor", "streaming").await;
        if let Some(reason) = reason {
            let told: String = world
                .scalar(
                    "select reason from tidemark.resync where stream = 'doctor' order by id \
                     desc limit 1",
                )
                .await;
            assert_eq!(told, reason, "{damage}");
            let line = format!("\"reason\":\"{reason}\"");
            eventually(&damage, async || daemon.log().contains(&line)).await;
        }
        daemon.stop();
    }
    let others: i64 =
        world.scalar("select count(*) from tidemark.resync where stream = 'recommendation'").await;
    assert_eq!(others, 1);

    world.execute(&state::damage("version = 99", "doctor")).await;
    let before: i64 = world.scalar("select count(*) from tidemark.resync").await;
    let daemon = world.start();
    let halted = daemon.until_phase("doctor", "halted").await;
    assert!(halted["reason"].as_str().unwrap().contains("newer release"), "{halted}");
    assert_eq!(
        world.scalar::<i64>("select count(*) from tidemark.resync").await,
        before,
        "a newer format is refused"
    );
}

#[tokio::test]
async fn a_position_is_shown_archived_and_moved_back_only_when_asked_and_never_forward() {
    let world = world().await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let token: String = world.scalar(&state::position("token", "doctor")).await;
    let at: i64 = world.scalar(&state::position("cluster_time >> 32", "doctor")).await;
    let (code, told) = run(&world, &["checkpoint", "show", "doctor"]);
    assert!(code == Some(0) && told.contains("usable       yes"), "{told}");
    for n in 0..20 {
        world.collection(DOCTORS).insert_one(doc! { "_id": format!("later{n}") }).await.unwrap();
    }
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until("doctor", "moved on", |s| s["events_applied"].as_u64() >= Some(20)).await;

    let (code, told) =
        run(&world, &["checkpoint", "rewind", "doctor", "--to", &token, "--reason", "look again"]);
    assert!(code == Some(0) && told.contains("--execute"), "{told}");
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.checkpoint_history").await, 0);
    let (code, told) = run(
        &world,
        &["checkpoint", "rewind", "doctor", "--to", &token, "--reason", "look again", "--execute"],
    );
    assert!(code == Some(0) && told.contains("goes on from"), "{told}");
    let again = |s: &serde_json::Value| s["events_applied"].as_u64() >= Some(40);
    daemon.until("doctor", "applied the same again", again).await;
    world.until_equal(DOCTORS, TABLE).await;

    let (code, told) = run(&world, &["checkpoint", "history", "doctor", "--json"]);
    let history: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(
        code == Some(0) && history[0]["why"].as_str().unwrap().contains("look again"),
        "{told}"
    );
    let id = history[0]["id"].to_string();
    let (code, told) = run(
        &world,
        &["checkpoint", "rewind", "doctor", "--to", &id, "--reason", "by id", "--execute"],
    );
    assert_eq!(code, Some(0), "{told}");
    daemon.until("doctor", "goes on", |s| s["phase"] == "streaming").await;

    let time = chrono::DateTime::from_timestamp(at, 0).unwrap().to_rfc3339();
    let (code, told) =
        run(&world, &["checkpoint", "rewind", "doctor", "--to", &time, "--reason", "by time"]);
    assert!(code == Some(0) && told.contains("rewind of stream doctor"), "{told}");
    for (to, why) in [
        ("2001-01-01T00:00:00Z", "history begins at"),
        ("82FFFFFFFF000000012B0229296E04", "further on"),
        ("yesterday", "no id, no time and no token"),
        ("999", "no usable retired position"),
    ] {
        let (code, told) = run(
            &world,
            &["checkpoint", "rewind", "doctor", "--to", to, "--reason", "x", "--execute"],
        );
        assert!(code == Some(1) && told.contains(why), "{to}: {told}");
    }
    let (code, told) = run(&world, &["checkpoint", "show", "nobody"]);
    assert!(
        code == Some(1)
            && told.contains("there is no stream nobody; configured are doctor, recommendation"),
        "{told}"
    );
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test]
async fn a_comparison_finds_what_differs_while_the_stream_is_followed_and_can_have_it_repaired() {
    let world = world().await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    let (code, told) = run(&world, &["compare", "doctor"]);
    assert!(code == Some(0) && told.contains("50 documents compared with 50 rows"), "{told}");
    world
        .execute(
            "delete from public.doctor where id = 'd1'; update public.doctor set doc = \
             '{\"_id\": \"d2\", \"x\": 1}' where id = 'd2';
             insert into public.doctor (id, doc, _cluster_time) values ('ghost', '{}', 5)",
        )
        .await;
    // A writer at work is no difference.
    let doctors = world.collection(DOCTORS);
    let stop = tokio_util::sync::CancellationToken::new();
    let told = stop.clone();
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while !told.is_cancelled() {
            n += 1;
            let id = format!("d{}", 10 + n % 40);
            doctors.update_one(doc! { "_id": id }, doc! { "$set": { "n": n } }).await.unwrap();
            doctors.insert_one(doc! { "_id": format!("w{n}") }).await.unwrap();
        }
    });
    let (code, told) = run(&world, &["compare", "doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&told).unwrap();
    let found = &found["compared"];
    assert_eq!(code, Some(1));
    assert_eq!(
        (&found["missing_ids"][0], &found["different_ids"][0], &found["extra_ids"][0]),
        (&"d1".into(), &"d2".into(), &"ghost".into()),
        "{told}"
    );
    assert_eq!(
        (&found["missing"], &found["different"], &found["extra"]),
        (&1.into(), &1.into(), &1.into()),
        "{told}"
    );
    assert_eq!(
        world.scalar::<i64>("select count(*) from tidemark.command").await,
        0,
        "comparing changes nothing"
    );
    stop.cancel();
    writing.await.unwrap();
    let (code, told) = run(&world, &["compare", "doctor", "--sample", "1000"]);
    assert!(code == Some(1) && told.contains("not looked for in a sample"), "{told}");
    let repair = ["compare", "doctor", "--repair", "--execute", "--reason", "tampered with"];
    let (code, told) = run(&world, &repair);
    let done = "3 of 3 documents read, 2 rows written, 1 deleted";
    assert!(code == Some(1) && told.contains(done), "{told}");
    world.until_equal(DOCTORS, TABLE).await;
    daemon.until_phase("doctor", "streaming").await;
    assert_eq!(run(&world, &["compare", "doctor"]).0, Some(0));
    let walks = "select count(*) from tidemark.resync where reason <> 'first_snapshot'";
    let walks: i64 = world.scalar(walks).await;
    assert_eq!(walks, 0, "nothing but what differed was read again");
}

#[tokio::test]
async fn a_scheduled_comparison_raises_what_it_finds_and_takes_it_back() {
    let extra = "compare.interval = \"1s\"\ncompare.documents_per_second_max = 1000".to_owned();
    let world =
        World::with(Config { extra, streams: stream("doctor", DOCTORS, ""), ..Config::default() })
            .await;
    world.collection(DOCTORS).insert_one(doc! { "_id": "d1" }).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon
        .until("doctor", "was compared", |s| {
            s["compared"]["at"].is_string() && s["compared"]["missing"] == 0
        })
        .await;
    world.execute("update public.doctor set doc = '{}'").await;
    daemon.until("doctor", "the difference is found", |s| s["compared"]["different"] == 1).await;
    let is_told = async || {
        let status = daemon.status().await;
        let action = status["action"].as_str().unwrap_or_default();
        status["verdict"] == "degraded" && action.contains("compare doctor --repair")
    };
    eventually("it is told with what to do", is_told).await;
    // The log is written by a thread of its own.
    daemon.until("doctor", "it is logged", |_| daemon.log().contains("divergence_found")).await;
    run(&world, &["compare", "doctor", "--repair", "--execute", "--reason", "a test"]);
    daemon.until("doctor", "it is gone", |s| s["compared"]["different"] == 0).await;
    world.until_equal(DOCTORS, TABLE).await;
}
