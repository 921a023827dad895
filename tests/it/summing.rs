//! The weekly summary: told once by one process, from what is stored.

use std::time::Duration;

use devstack::Fakes;
use mongodb::bson::doc;
use serde_json::Value;

use crate::alerting::until;
use crate::support::{Config, World, eventually, run, stream};

/// The summaries that Slack, and the receiver of deliveries, were told.
fn told(fakes: &Fakes) -> (Vec<String>, Vec<Value>) {
    let slack = fakes.roots().into_iter().filter_map(|root| {
        let head = root.body["blocks"][0]["text"]["text"].as_str()?.to_owned();
        let text = root.body["blocks"][1]["text"]["text"].as_str()?.to_owned();
        head.starts_with('📋').then_some(text)
    });
    let delivered = fakes.delivered().into_iter();
    let delivered = delivered.filter_map(|one| serde_json::from_str::<Value>(&one.body).ok());
    (slack.collect(), delivered.filter(|body| body["type"] == "summary").collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_week_is_told_once_however_many_processes_there_are_and_whoever_counted() {
    let fakes = Fakes::start().unwrap();
    let extra = format!(
        "{}{}alert.weekly_summary = \"Mon 09:00\"\n",
        fakes.config(),
        fakes.receiver_config()
    );
    let streams = stream("doctor", "doctor", "");
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    let mut one = world.start();
    one.until_phase("doctor", "streaming").await;
    // The first look counts from nothing, and tells of nothing.
    world.until("it counts", "select counted ? 'since' from tidemark.summary").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let write = async |n: i32| {
        let documents = (0..50).map(|i| doc! { "_id": 1_000 * n + i, "n": n });
        world.collection("doctor").insert_many(documents).await.unwrap();
        world.until_equal("doctor", "public.doctor").await;
    };
    write(1).await;
    let counted = |least: i32| {
        format!("select (counted ->> 'events_applied')::integer >= {least} from tidemark.summary")
    };
    world.until("what is applied is counted", &counted(50)).await;
    // Another process goes on counting.
    let two = world.start();
    one.stop();
    two.until_phase("doctor", "streaming").await;
    write(2).await;
    let three = world.start();
    three.until_readiness(200).await;
    world.until("it goes on", &counted(100)).await;
    assert_eq!(told(&fakes), (Vec::new(), Vec::new()), "none is due");

    // A week ago the last one was told.
    world
        .execute("update tidemark.summary set due_at = due_at - interval '7 days', told = '{}'")
        .await;
    until("both are told", &world, || {
        let (slack, delivered) = told(&fakes);
        !slack.is_empty() && !delivered.is_empty()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (slack, delivered) = told(&fakes);
    assert_eq!((slack.len(), delivered.len()), (1, 1), "{slack:#?} {delivered:#?}");
    assert!(
        slack[0].contains("*Changes* 100 applied, 100 rows changed, by 1 streams in 1 groups"),
        "{}",
        slack[0]
    );
    let week = &delivered[0];
    assert_eq!((&week["events_applied"], &week["streams"]), (&100.into(), &1.into()), "{week:#}");
    assert!(week["headroom"]["seconds"].as_f64().is_some(), "{week:#}");
    let anew = "select (counted ->> 'events_applied')::integer = 0 and told = '{}' and due_at > \
                now() - interval '7 days' from tidemark.summary";
    eventually("counting begins anew", async || world.scalar::<bool>(anew).await).await;
}

#[tokio::test]
async fn a_time_that_is_none_is_refused_and_none_is_the_default() {
    for time in ["Monday", "Mon 9 o'clock", "* 09:00"] {
        let extra = format!("alert.weekly_summary = {time:?}\n");
        let world = World::with(Config { extra, ..Config::default() }).await;
        let (code, told) = run(&world, &["check", "--offline"]);
        assert!(code == Some(78) && told.contains("such as \"Mon 09:00\""), "{told}");
    }
    let (code, _) = run(&World::new().await, &["check", "--offline"]);
    assert_eq!(code, Some(0));
}
