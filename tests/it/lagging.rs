//! What is written at the source but confirmed by no majority is lag, and no health.

use devstack::{Fakes, Mongo, MongoOptions, Stack};
use mongodb::bson::Document;
use mongodb::options::{CollectionOptions, WriteConcern};

use crate::alerting::{DOCTORS, TABLE, is_resolved, seed, until, until_incident};
use crate::support::{Config, Daemon, World, stream};

async fn until_pinged(fakes: &Fakes, world: &World) {
    let before = fakes.pings();
    until("a heartbeat is sent", world, || fakes.pings() > before).await;
}

/// Follows the position over `moves` no-ops of an idle source.
async fn idle(daemon: &Daemon, moves: usize) {
    for _ in 0..moves {
        let before = daemon.stream("doctor").await["position"]["cluster_time"].clone();
        let moved = |status: &serde_json::Value| {
            assert_eq!(status["lag_seconds"], 0.0, "idle is no lag: {status:#}");
            assert!(status["unconfirmed_since"].is_null(), "{status:#}");
            status["position"]["cluster_time"] != before
        };
        daemon.until("doctor", "is idle", moved).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_point_that_stands_still_is_lag_and_an_incident_and_no_heartbeat() {
    let options = MongoOptions { members: 3, cache_gigabytes: 0.25, ..MongoOptions::default() };
    let mongo = Mongo::start(&options).unwrap();
    let fakes = Fakes::start().unwrap();
    let stack = Stack::shared();
    let url = stack.postgres.url(&stack.postgres.database().await.unwrap());
    let quick = "alert.resolve_hold = \"1s\"\nretry.escalate_after = \"1s\"\n";
    let url_of = fakes.heartbeat_url();
    let heartbeats =
        format!("alert.heartbeat.url = {url_of:?}\nalert.heartbeat.interval = \"1s\"\n");
    let extra = format!("{}{quick}{heartbeats}", fakes.config());
    let config = Config { extra, streams: stream("doctor", DOCTORS, ""), ..Config::default() };
    let world = World::of(&mongo.uri(), &url, config).await;
    seed(&world, 20).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    idle(&daemon, 2).await;
    until_pinged(&fakes, &world).await;

    mongo.replicate(false).await.unwrap();
    let unconfirmed = CollectionOptions::builder().write_concern(WriteConcern::nodes(1)).build();
    let doctors = world.source.collection_with_options::<Document>(DOCTORS, unconfirmed);
    doctors
        .insert_one(devstack::revalidation::doctor(&mut fastrand::Rng::with_seed(3), 50))
        .await
        .unwrap();
    daemon.until("doctor", "lags", |s| s["lag_seconds"].as_f64() > Some(10.0)).await;
    until("it is told", &world, || fakes.roots().len() == 1).await;
    let text = fakes.roots()[0].body.to_string();
    assert!(text.contains("MongoDB confirms nothing"), "{text}");
    let status = daemon.status().await;
    assert_ne!(status["verdict"], "healthy", "{status:#}");
    let why = "no heartbeat: the source of stream doctor confirms nothing";
    until("the heartbeat says why it is not sent", &world, || daemon.log().contains(why)).await;
    let pings = fakes.pings();
    let polled = status["streams"][0]["last_poll_at"].clone();
    for _ in 0..3 {
        daemon
            .until("doctor", "is polled", |s| {
                s["last_poll_at"] != polled && s["lag_seconds"] != 0.0
            })
            .await;
    }
    assert_eq!(fakes.pings(), pings, "no heartbeat");

    mongo.replicate(true).await.unwrap();
    world.until_equal(DOCTORS, TABLE).await;
    until("the message is green", &world, || fakes.roots().iter().all(is_resolved)).await;
    until_incident(&daemon, "none is open", <[serde_json::Value]>::is_empty).await;
    daemon.until("doctor", "lags no more", |s| s["lag_seconds"] == 0.0).await;
    assert_eq!(fakes.roots().len(), 1);
    until_pinged(&fakes, &world).await;
}
