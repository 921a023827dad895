//! Guarantee 9: one cause, one incident, one resolve; delivered when the channel comes back; never
//! waited for.

use std::time::{Duration, Instant};

use devstack::{Behaviour, Fakes, Message};
use serde_json::Value;

use crate::support::{Config, Daemon, World, eventually, run, state};

pub const DOCTORS: &str = "doctorsForDB";
pub const TABLE: &str = "public.doctor";

/// Everything quick, told to the fakes.
pub async fn world(fakes: &Fakes, extra: &str) -> World {
    let quick = "alert.resolve_hold = \"1s\"\nretry.escalate_after = \"1s\"\n";
    World::with(Config {
        apart: true,
        extra: format!("{}{quick}{extra}", fakes.config()),
        ..Config::default()
    })
    .await
}

pub async fn seed(world: &World, documents: usize) {
    let mut rng = fastrand::Rng::with_seed(7);
    let all: Vec<_> = (0..documents).map(|n| devstack::revalidation::doctor(&mut rng, n)).collect();
    world.collection(DOCTORS).insert_many(all).await.unwrap();
}

/// Waits until something about the fakes holds.
pub async fn until(what: &str, world: &World, mut holds: impl FnMut() -> bool) {
    // A message is edited once a minute: what follows an edit may take that long.
    let deadline = Instant::now() + Duration::from_secs(150);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}\n{}", world.logs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn header(message: &Message) -> String {
    message.body["blocks"][0]["text"]["text"].as_str().unwrap_or_default().to_owned()
}

pub fn is_resolved(message: &Message) -> bool {
    header(message).starts_with('🟢')
}

pub async fn until_incident(
    daemon: &Daemon,
    what: &str,
    holds: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = daemon.status().await;
        let incidents = status["incidents"].as_array().unwrap().clone();
        if holds(&incidents) {
            return incidents;
        }
        assert!(
            Instant::now() < deadline,
            "not within a minute: {what}\n{status:#}\n{}",
            daemon.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_history_with_six_hundred_failures_behind_it_is_one_thread_and_one_sentry_issue() {
    let fakes = Fakes::start().unwrap();
    let world = world(
        &fakes,
        "resync.automatic = false\nretry.delay_max = \"10ms\"\nretry.delay_min = \"5ms\"\n",
    )
    .await;
    seed(&world, 200).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.stop();
    state::lose_position(&world, "doctor").await;

    let daemon = world.start();
    until_incident(&daemon, "600 failures are counted", |incidents| {
        incidents.iter().any(|i| i["code"] == "history_lost" && i["count"].as_u64() >= Some(600))
    })
    .await;
    assert_eq!(daemon.status().await["verdict"], "critical");
    assert_eq!(
        daemon.metric("tidemark_incident_open{code=\"history_lost\",severity=\"critical\"}").await,
        1.0
    );
    let (code, said) = run(&world, &["resync", "doctor", "--reason", "lost", "--execute"]);
    assert_eq!(code, Some(0), "{said}");
    let is_green = || !fakes.roots().is_empty() && fakes.roots().iter().all(is_resolved);
    until("the message is green", &world, is_green).await;
    until_incident(&daemon, "none is open", <[Value]>::is_empty).await;

    let roots = fakes.roots();
    assert_eq!(roots.len(), 1, "{roots:#?}");
    let replies = fakes.replies(&roots[0].ts);
    assert!(replies.len() <= 6 && roots[0].edits >= 1, "{replies:#?}");
    let ends = replies
        .iter()
        .filter(|r| r.body["blocks"][0]["text"]["text"].as_str().unwrap().starts_with("Resolved"));
    assert_eq!(ends.count(), 1);
    let events = fakes.events();
    assert!((1..=2).contains(&events.len()), "{events:#?}");
    assert_eq!(
        events[0]["fingerprint"],
        serde_json::json!(["tidemark", "development", "history_lost", "doctor"])
    );
    assert!(events.iter().all(|event| event["fingerprint"] == events[0]["fingerprint"]));
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_is_one_message_that_fills_up_and_ends_as_its_own_completion() {
    let fakes = Fakes::start().unwrap();
    let slow = "resync.documents_per_second_max = 40\nresync.chunk_documents = \
                50\ncompare.interval = \"1s\"\n";
    let world = world(&fakes, slow).await;
    seed(&world, 600).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.stop();
    state::lose_position(&world, "doctor").await;
    world.collection(DOCTORS).delete_one(mongodb::bson::doc! { "_id": "1000007" }).await.unwrap();

    let daemon = world.start();
    until("the opening is posted", &world, || !fakes.roots().is_empty()).await;
    let root = &fakes.roots()[0];
    let text = root.body["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(text.contains("Nothing to do") && text.contains("of 599 documents"), "{text}");
    until("the message is green", &world, || fakes.roots().iter().all(is_resolved)).await;
    let root = &fakes.roots()[0];
    let text = root.body["blocks"][1]["text"]["text"].as_str().unwrap();
    assert!(text.contains("wrote what the table lacked") && text.contains("1 deleted"), "{text}");
    assert_eq!(
        (fakes.roots().len(), fakes.replies(&root.ts).len(), fakes.events().len()),
        (1, 1, 1)
    );
    for (job, status) in
        [("snapshot", "ok"), ("resync", "in_progress"), ("resync", "ok"), ("comparison", "ok")]
    {
        let slug = format!("tidemark-doctor-{job}");
        until(&format!("{slug} {status}"), &world, || {
            fakes
                .check_ins()
                .iter()
                .any(|c| c["monitor_slug"] == slug.as_str() && c["status"] == status)
        })
        .await;
    }
    drop(daemon);
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_incident_is_listed_shown_and_taken_on_and_that_is_recorded() {
    let fakes = Fakes::start().unwrap();
    let heartbeat = format!(
        "alert.heartbeat.url = {:?}\nalert.heartbeat.interval = \"1s\"\n",
        fakes.heartbeat_url()
    );
    let world = world(&fakes, &format!("resync.automatic = false\n{heartbeat}")).await;
    seed(&world, 20).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, TABLE).await;
    until("the heart beats", &world, || fakes.pings() > 1).await;
    daemon.stop();
    state::lose_position(&world, "doctor").await;
    let before = fakes.pings();
    let daemon = world.start();
    let open = until_incident(&daemon, "one is open", |incidents| incidents.len() == 1).await;
    let id = open[0]["id"].to_string();
    until("the opening is posted", &world, || !fakes.roots().is_empty()).await;

    let (code, said) = run(&world, &["incident", "list"]);
    assert!(code == Some(0) && said.contains("history_lost") && said.contains("→"), "{said}");
    let (code, said) = run(&world, &["incident", "show", &id, "--json"]);
    assert!(
        code == Some(0) && serde_json::from_str::<Value>(&said).unwrap()["detail"]["revision"] == 1,
        "{said}"
    );
    let (code, said) =
        run(&world, &["incident", "ack", &id, "--by", "Mary", "--until", "1999-01-01T00:00:00Z"]);
    assert!(code == Some(2) && said.contains("time to come"), "{said}");
    let (code, said) = run(&world, &["incident", "ack", "999", "--by", "Mary", "--until", "4h"]);
    assert!(code == Some(1) && said.contains("999"), "{said}");
    let (code, said) = run(&world, &["incident", "ack", &id, "--by", "Mary", "--until", "4h"]);
    assert_eq!(code, Some(0), "{said}");
    until("the thread says who is on it", &world, || {
        fakes
            .messages()
            .iter()
            .any(|message| message.body.to_string().contains("Mary is on it until"))
    })
    .await;
    let open = until_incident(&daemon, "it is acknowledged", |i| i[0]["state"] == "acked").await;
    assert_eq!(open[0]["acked_by"], "Mary");
    let recorded = "select (verb, arguments->>'by', done_at is not null) = ('incident ack', \
                    'Mary', true) from tidemark.command";
    world.until("it is recorded", recorded).await;
    // The stream is halted: the heart stays still, whoever is on it.
    let is_told = async || run(&world, &["status"]).0 == Some(2);
    eventually("the status says so", is_told).await;
    let pings = fakes.pings();
    assert!(pings <= before + 1, "{pings} after {before}");
    let (code, said) = run(&world, &["resync", "doctor", "--reason", "lost", "--execute"]);
    assert_eq!(code, Some(0), "{said}");
    until("the heart beats again", &world, || fakes.pings() > pings + 1).await;
    world.until_equal(DOCTORS, TABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_channels_can_be_tried_and_checked() {
    let fakes = Fakes::start().unwrap();
    let extra = format!(
        "alert.slack.webhook_url = {:?}\nalert.heartbeat.url = {:?}\n",
        fakes.webhook_url(),
        fakes.heartbeat_url()
    );
    let world = world(&fakes, &extra).await;
    let (code, said) = run(&world, &["alert", "test"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), 4, "{said}");
    let roots = fakes.roots();
    assert!(
        roots.len() == 1
            && is_resolved(&roots[0])
            && header(&roots[0]).contains("test of the alert channels")
    );
    assert_eq!((fakes.replies(&roots[0].ts).len(), fakes.webhooked().len()), (1, 2));
    assert_eq!((fakes.events().len(), fakes.pings()), (1, 1));
    let (_, said) = run(&world, &["check"]);
    assert!(said.contains("the token is good and the channel is there"), "{said}");
    assert_eq!(fakes.messages().len(), 2, "check sends nothing");
    fakes.slack(Behaviour::Error("invalid_auth"));
    let (code, said) = run(&world, &["alert", "test"]);
    assert!(
        code == Some(1) && said.contains("FAILED slack") && said.contains("invalid_auth"),
        "{said}"
    );
    let (code, said) = run(&world, &["check"]);
    assert!(code == Some(1) && said.contains("bot token is not valid"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slack_and_sentry_that_never_answer_delay_neither_the_start_nor_the_end_nor_the_data() {
    let fakes = Fakes::start().unwrap();
    fakes.slack(Behaviour::Hangs);
    fakes.sentry(Behaviour::Hangs);
    let world = world(&fakes, "").await;
    seed(&world, 50).await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    state::lose_position(&world, "recommendation").await;
    world.until_equal(DOCTORS, TABLE).await;
    daemon.stop();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.collection(DOCTORS).delete_one(mongodb::bson::doc! { "_id": "1000007" }).await.unwrap();
    world.until_equal(DOCTORS, TABLE).await;
    let (code, took) = daemon.stop();
    assert!(code == Some(0) && took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_stops_its_stream_only_and_is_reported_by_its_place_without_its_values() {
    let fakes = Fakes::start().unwrap();
    let world = world(&fakes, "").await;
    seed(&world, 20).await;
    let mut daemon = world.start_with(&[("TIDEMARK_FAILPOINT", "apply.begun=panic@1")]);
    let panics = || -> usize {
        let place = "panic at src/failpoint.rs";
        let told = |event: &Value| event["message"].as_str().is_some_and(|m| m.starts_with(place));
        fakes.events().iter().filter(|event| event["level"] == "fatal" && told(event)).count()
    };
    until("its place is told", &world, || panics() == 1).await;
    // The stream that panicked is begun again after a pause, and nothing was lost by it.
    for stream in ["doctor", "recommendation"] {
        daemon.until_phase(stream, "streaming").await;
    }
    world.until_equal(DOCTORS, TABLE).await;
    let log = daemon.log();
    for said in ["panic at src/failpoint.rs", "halted: the pipeline panicked"] {
        assert!(log.contains(said), "{log}");
    }
    assert!(!(log.clone() + &fakes.raw()).contains("with a value: apply"), "{log}");
    assert!(daemon.is_running(), "{log}");
}
