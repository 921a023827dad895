//! A comparison finds what differs and nothing else, however busy the source is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mongodb::bson::doc;
use serde_json::{Value, json};

use crate::alerting::{DOCTORS, TABLE, seed};
use crate::support::{Config, World, run, stream};

fn number(n: usize) -> String {
    format!("{:07}", n + 1_000_000)
}

/// Changes documents, and takes others away and puts them back as they were, until told to stop.
fn hammer(world: &World, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<()>> {
    let change = (0..2).map(|task| {
        let (doctors, stop) = (world.collection(DOCTORS), Arc::clone(stop));
        tokio::spawn(async move {
            for n in (0..5).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                let one = doc! { "_id": number(task * 100 + n) };
                doctors.update_one(one, doc! { "$inc": { "visits": 1 } }).await.unwrap();
            }
        })
    });
    let put_back = (0..2).map(|task| {
        let (doctors, stop) = (world.collection(DOCTORS), Arc::clone(stop));
        tokio::spawn(async move {
            for n in (0..5).cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                let one = doc! { "_id": number(1_000 + task * 100 + n) };
                let taken = doctors.find_one_and_delete(one).await.unwrap().unwrap();
                doctors.insert_one(taken).await.unwrap();
            }
        })
    });
    change.chain(put_back).collect()
}

/// Once more where the stream has not caught up, which is said, and what it has still to apply
/// then counts as a difference: on a busy machine a lease may run out.
async fn compare(world: &World) -> (Option<i32>, Value) {
    for tries in 0.. {
        let mut command = world.command(&["compare", "doctor", "--json"]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let report =
            serde_json::from_str::<Value>(&said).map_err(|error| format!("{error}: {said}"));
        let found = report.unwrap()["compared"].clone();
        if found["note"].is_null() || tries == 9 {
            return (output.status.code(), found);
        }
    }
    unreachable!()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn busy_documents_are_no_differences_and_real_ones_are_found_among_them() {
    let config = Config { streams: stream("doctor", DOCTORS, ""), ..Config::default() };
    let world = World::with(config).await;
    seed(&world, 3_000).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let busy = hammer(&world, &stop);
    for round in 0..4 {
        let (code, found) = compare(&world).await;
        let told = [&found["missing"], &found["extra"], &found["different"]];
        assert_eq!(told, [&json!(0), &json!(0), &json!(0)], "{round}: {found:#}");
        assert_eq!((code, &found["note"]), (Some(0), &Value::Null), "{found:#}");
    }
    let spoil = "delete from doctor where id = '1002001'; update doctor set doc = doc || \
                 '{\"sanction\": \"wrong\"}' where id in ('1002002', '1002003'); insert into \
                 doctor (id, doc, _cluster_time) values ('stray', '{}', 1)";
    world.execute(spoil).await;
    let (code, found) = compare(&world).await;
    let told = [&found["missing_ids"], &found["extra_ids"], &found["different_ids"]];
    let expected = [json!(["1002001"]), json!(["stray"]), json!(["1002002", "1002003"])];
    assert_eq!(told, expected.each_ref(), "{found:#}");
    assert_eq!(code, Some(1));
    stop.store(true, Ordering::Relaxed);
    for task in busy {
        task.await.unwrap();
    }
    let (_, found) = compare(&world).await;
    let told = [&found["missing"], &found["extra"], &found["different"], &found["undecided"]];
    assert_eq!(told, [&json!(1), &json!(1), &json!(2), &json!(0)], "{found:#}");
    world.execute("delete from doctor where id = 'stray'").await;
    world
        .collection(DOCTORS)
        .delete_many(doc! { "_id": { "$in": ["1002001", "1002002", "1002003"] } })
        .await
        .unwrap();
    world.until_equal(DOCTORS, TABLE).await;
}

/// A stream whose positions are due once an hour is compared, and waited for, all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_compares_or_waits_has_a_position_at_once() {
    let extra = "checkpoint.idle_interval = \"1h\"\n".to_owned();
    let world = World::with(Config { extra, ..Config::default() }).await;
    let doctors = world.collection(DOCTORS);
    doctors.insert_many((0..50).map(|n| doc! { "_id": n })).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    // The source moves on, and nothing of it is the stream's.
    world.collection("others").insert_one(doc! { "_id": 1 }).await.unwrap();
    let (code, told) = run(&world, &["compare", "doctor"]);
    assert!(code == Some(0) && !told.contains("not caught up"), "{told}");
    let now = chrono::Utc::now().to_rfc3339();
    let (code, told) = run(&world, &["wait", "doctor", "--for", &now, "--timeout", "60s"]);
    assert_eq!(code, Some(0), "{told}");
}

/// While the source stands still, a row that is no document's can be as new as its last entry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_as_new_as_the_source_is_extra_all_the_same() {
    let stack = tokio::task::spawn_blocking(devstack::Stack::start).await.unwrap().unwrap();
    let database = stack.postgres.database().await.unwrap();
    let target = stack.postgres.url(&database);
    let world = World::of(&stack.mongo.uri(), &target, Config::default()).await;
    let doctors = world.collection(DOCTORS);
    doctors.insert_many((0..50).map(|n| doc! { "_id": n })).await.unwrap();
    let mut daemon = world.start();
    world.until_equal(DOCTORS, TABLE).await;
    assert_eq!(daemon.stop().0, Some(0));
    for _ in 0..5 {
        let told = world.source.run_command(doc! { "ping": 1 }).await.unwrap();
        let time = told.get_timestamp("operationTime").unwrap();
        let time = (i64::from(time.time) << 32) | i64::from(time.increment);
        world
            .execute(&format!(
                "insert into public.doctor (id, doc, _cluster_time) values ('nobody', '{{}}', \
                 {time}) on conflict (id) do update set _cluster_time = excluded._cluster_time"
            ))
            .await;
        let (code, told) = run(&world, &["compare", "doctor", "--json"]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((code, &told["compared"]["extra"]), (Some(1), &1.into()), "{told}");
    }
}
