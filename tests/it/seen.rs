//! What commands say of a stream that its group goes on without, and of one that has just begun.

use std::time::Duration;

use mongodb::bson::doc;
use serde_json::Value;

use crate::privacy::an_incident;
use crate::support::{Config, World, run, state, stream};

async fn world(names: &[&str]) -> World {
    let streams = names.iter().map(|name| stream(name, name, "")).collect();
    let world = World::with(Config { streams, ..Config::default() }).await;
    for name in names {
        let documents = (0..20).map(|n| doc! { "_id": n, "n": n });
        world.collection(name).insert_many(documents).await.unwrap();
    }
    world
}

/// A command's report, and its exit code.
fn json(world: &World, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = world.command(&[arguments, &["--json"]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&said).map_err(|error| format!("{error}: {said}"));
    (output.status.code(), report.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_of_a_paused_stream_is_refused_before_it_is_asked_for() {
    let world = world(&["still", "well"]).await;
    let daemon = world.start();
    for name in ["still", "well"] {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
    // What is said of a stream is written now and then.
    let mut report = Value::Null;
    for _ in 0..100 {
        report = json(&world, &["status"]).1;
        if report["streams"][0]["exact"] == true && report["streams"][1]["exact"] == true {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(report["streams"][0]["exact"], true, "{report:#}");
    let pause = ["pause", "still", "--until", "1h", "--reason", "x", "--execute"];
    assert_eq!(run(&world, &pause).0, Some(0));
    world.collection("still").delete_one(doc! { "_id": 7 }).await.unwrap();
    for asked in [
        &["resync", "still", "--reason", "x"][..],
        &["resync", "still", "--reason", "x", "--ids", "{\"$numberInt\":\"1\"}"],
        &["compare", "still", "--repair"],
    ] {
        let (code, told) = run(&world, asked);
        let refused = told.contains("paused until") && told.contains("`tidemark resume STREAM");
        assert!(code == Some(1) && refused, "{asked:?}: {told}");
    }
    // Another program asks.
    let part = "insert into tidemark.command (verb, stream, arguments, actor, reason, service, \
                environment) values ('resync_part', 'still', '{\"ids\": [\"1\"]}', 'x', 'x', \
                'tidemark', 'development')";
    world.execute(part).await;
    let refused = "select result like '%paused until%tidemark resume%' from tidemark.command \
                   where verb = 'resync_part'";
    world.until("the daemon says the same", refused).await;

    let (code, found) = json(&world, &["compare", "still"]);
    let note = found["compared"]["note"].as_str().unwrap_or_default();
    let said = note.starts_with("the stream is paused until") && note.contains("as a difference");
    assert!(code == Some(1) && said && found["compared"]["extra"] == 1, "{found:#}");
    assert_eq!(json(&world, &["compare", "well"]).1["compared"]["note"], Value::Null);

    let is_exact = || {
        let (_, report) = json(&world, &["status"]);
        let of = |list: &str| report[list].as_array().unwrap().clone().into_iter();
        let streams = of("streams").map(|one| one["exact"] == true).collect::<Vec<_>>();
        (streams, of("groups").map(|one| one["exact"] == true).collect::<Vec<_>>())
    };
    assert_eq!(is_exact(), (vec![false, true], vec![false]));
    daemon.kill();
    assert_eq!(is_exact(), (vec![false, true], vec![false]), "the one that said otherwise is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_stream_is_compared_with_the_reason_why_it_differs() {
    let world = world(&["still", "well"]).await;
    let daemon = world.start();
    daemon.until_phase("still", "streaming").await;
    world.until_equal("still", "public.still").await;
    world.execute("alter table still rename column doc to other").await;
    world.collection("still").insert_one(doc! { "_id": 100, "n": 1 }).await.unwrap();
    daemon.until_phase("still", "parked").await;
    world.execute("alter table still rename column other to doc").await;
    let (code, found) = json(&world, &["compare", "still"]);
    let note = found["compared"]["note"].as_str().unwrap_or_default();
    // It may be repaired by then.
    assert!(code == Some(0) || note.starts_with("the stream is parked: "), "{found:#}");
    let asked = ["resync", "still", "--reason", "x", "--ids", "{\"$numberInt\":\"1\"}"];
    let (_, told) = run(&world, &asked);
    assert!(!told.contains("\n---"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_incident_of_a_stream_is_a_part_of_what_is_said_of_it() {
    let world = world(&["one", "two"]).await;
    let daemon = world.start();
    daemon.until_phase("one", "streaming").await;
    world.until_equal("one", "public.one").await;
    daemon.kill();
    let incident = an_incident().replace("'target_full', null", "'resync_failed', 'one'");
    world.execute(&incident.replace("'s', ", "'what is to be said', ")).await;
    let (code, told) = run(&world, &["status", "--stream", "one"]);
    assert!(code == Some(2) && told.contains("stream one: critical"), "{code:?} {told}");
    assert!(told.contains("resync_failed") && told.contains("what is to be said"), "{told}");
    let (code, report) = json(&world, &["status", "--stream", "one"]);
    assert!(code == Some(2) && report["name"] == "one", "{report:#}");
    assert_eq!(report["incidents"][0]["code"], "resync_failed");
    let (_, report) = json(&world, &["status", "--stream", "two"]);
    assert_eq!(report["incidents"], Value::Array(Vec::new()), "it is not its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_has_just_begun_is_not_said_to_stand_by() {
    let world = world(&["one", "two"]).await;
    let mut daemon = world.start();
    for name in ["one", "two"] {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
    assert_eq!(daemon.stop().0, Some(0));
    let daemon = world.start();
    let mut looks = 0;
    loop {
        let (_, report) = json(&world, &["status"]);
        let (group, streams) = (&report["groups"][0], report["streams"].as_array().unwrap());
        // What its streams were before is told until it reads.
        let is_up = group["phase"] == "streaming" && group["exact"] == true;
        if is_up && streams.iter().all(|one| one["phase"] == "streaming") {
            looks += 1;
            if looks == 5 {
                break;
            }
        }
        assert!(group["leader"] == false || group["phase"] != "standby", "{report:#}");
    }
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_names_the_document_the_filter_and_the_time() {
    let streams = stream("few", "few", "filter = '{\"n\": {\"$lt\": 5}}'\n");
    let world = World::with(Config { streams, ..Config::default() }).await;
    let documents = (0..20).map(|n| doc! { "_id": format!("d{n}"), "n": n });
    world.collection("few").insert_many(documents).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("few", "streaming").await;
    world.until("it is whole", "select count(*) = 5 from few").await;
    let filter =
        |filter: &str| run(&world, &["resync", "few", "--filter", filter, "--reason", "x"]);
    let (code, told) = filter("{\"n\": 9}");
    assert!(code == Some(1) && told.contains("its own filter leaves them out"), "{told}");
    let (code, told) = filter("{\"n\": {\"$gte\": 4}}");
    assert!(code == Some(0) && told.contains("16 documents that --filter finds;"), "{told}");
    assert!(told.contains("15 have no row, and are not there or left out by"), "{told}");
    world.execute("update few set doc = '{}', _hash = 0 where id = 'd3'").await;
    let (code, told) = run(&world, &["resync", "few", "--ids", "d3", "--reason", "x"]);
    let said = told.contains("1 document named;") && told.contains("writes       1 row:");
    assert!(code == Some(0) && said, "{told}");

    let (code, told) =
        run(&world, &["wait", "few", "--for", "2097-01-01T00:00:00Z", "--timeout", "1s"]);
    assert!(code == Some(75) && told.contains("show 2097-01-01T00:00:00Z yet"), "{told}");
    assert!(!told.contains("4294967295"), "{told}");

    let pause = ["pause", "few", "--until", "1h", "--reason", "x", "--execute"];
    assert_eq!(run(&world, &pause).0, Some(0));
    world.execute("delete from few where id = 'd1'").await;
    let (code, told) = run(&world, &["explain", "few", "d1"]);
    let said = told.contains("parked or paused") && told.contains("paused       paused until");
    assert!(code == Some(0) && said, "{told}");
}

/// What is written now and then is the rest: here after ten seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_has_begun_to_stream_is_written_down_at_once() {
    let streams = stream("well", "well", "");
    let extra = "lease.duration = \"60s\"\n".to_owned();
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    let daemon = world.start();
    daemon.until_phase("well", "streaming").await;
    let begun = std::time::Instant::now();
    let written = format!("select ({}) ->> 'phase' = 'streaming'", state::group_report("well"));
    world.until("it is written down", &written).await;
    let late = begun.elapsed();
    assert!(late < Duration::from_secs(6), "{late:?} after it began to stream");
}

/// A process that died may have completed a walk since it last told of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_that_the_leader_before_told_of_is_shown_only_while_it_is_open() {
    let world = world(&["well"]).await;
    let first = world.start();
    first.until_phase("well", "streaming").await;
    world.until_equal("well", "public.well").await;
    first.until("well", "is walked no more", |s| s["resync"].is_null()).await;
    first.kill();
    let told = "update tidemark.stream set report = jsonb_set(report, '{resync}', '{\"id\": 1, \
                \"reason\": \"history_lost\", \"state\": \"running\", \"documents_read\": 7, \
                \"rows_upserted\": 7, \"rows_deleted\": 0, \"started_at\": \
                \"2026-01-01T00:00:00Z\"}'); update tidemark.lease set expires_at = now() + \
                interval '20 s'";
    world.execute(told).await;
    let second = world.start();
    second.until("well", "is led by the one that died", |s| s["resync"]["id"] == 1).await;
    second.until_phase("well", "streaming").await;
    second.until("well", "is not walked", |s| s["resync"].is_null() && s["leader"] == true).await;
}
