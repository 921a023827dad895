//! What is muted is recorded and shown, and told only if it is still open at the end.

use chrono::{TimeDelta, Utc};
use devstack::{Fakes, Stack};
use serde_json::Value;

use crate::alerting::{until, until_incident, world};
use crate::channels::{Bench, header, lost, well};
use crate::support::{Config, World, run};

/// On the real clock, since mutes are of it.
async fn bench(extra: &str) -> Bench {
    let fakes = Fakes::start().unwrap();
    let stack = Stack::shared();
    let url = stack.postgres.url(&stack.postgres.database().await.unwrap());
    let extra = format!("{}{}{extra}", fakes.config(), fakes.receiver_config());
    let mut bench = Bench::of(fakes, &url, extra).await;
    bench.now = Utc::now();
    bench
}

fn said(bench: &Bench, arguments: &[&str]) -> String {
    let (code, told) = run(&bench.world, arguments);
    assert_eq!(code, Some(0), "{told}");
    told
}

/// How much every channel was told: Slack, Sentry, the webhook.
fn told(bench: &Bench) -> [usize; 3] {
    let fakes = &bench.fakes;
    [fakes.messages().len(), fakes.events().len(), fakes.delivered().len()]
}

const MUTE: [&str; 9] = [
    "incident",
    "mute",
    "history_lost",
    "--until",
    "1h",
    "--by",
    "Mary",
    "--reason",
    "oplog moved",
];

#[tokio::test]
async fn what_is_still_open_when_a_mute_ends_is_told_then_as_it_is() {
    let mut bench = bench("").await;
    assert!(said(&bench, &MUTE).contains("would not be told until"));
    bench.turns(1, 2, well).await;
    said(&bench, &[&MUTE[..], &["--execute"]].concat());
    bench.turns(60, 30, lost).await;
    assert_eq!(told(&bench), [0, 0, 0]);
    let kept = "select count(*) from tidemark.incident where resolved_at is null";
    assert_eq!(bench.world.scalar::<i64>(kept).await, 1, "it is recorded");
    let list = said(&bench, &["incident", "list"]);
    assert!(list.contains("muted: history_lost until ") && list.contains("Mary: oplog moved"));
    let json: Value = serde_json::from_str(&said(&bench, &["incident", "list", "--json"])).unwrap();
    assert_eq!(json[0]["muted"]["by"], "Mary");
    // Another incident is told.
    bench
        .turns(60, 31, |bench| {
            let mut seen = lost(bench);
            let other = crate::channels::halted("doctor", "dead_letter_rate", bench);
            seen.streams.extend(crate::channels::observed(vec![other]).streams);
            seen
        })
        .await;
    let roots: Vec<String> = bench.fakes.roots().iter().map(header).collect();
    let (other, lost) =
        ("🔴 doctor: too many events cannot be stored", "🔴 recommendation: history lost");
    assert_eq!(roots, [other, lost], "the one at once, the other at the end of the hour");
    let events = bench.fakes.delivered();
    let last: Value = serde_json::from_str(&events.last().unwrap().body).unwrap();
    assert_eq!(
        (&last["event"], &last["incident"]["code"]),
        (&"opened".into(), &"history_lost".into())
    );
}

#[tokio::test]
async fn what_came_and_went_meanwhile_is_told_to_nobody_and_what_was_told_before_ends_after() {
    let mut bench = bench("").await;
    said(&bench, &[&MUTE[..], &["--execute"]].concat());
    bench.turns(10, 3, lost).await;
    bench.turns(31, 3, well).await;
    assert_eq!(told(&bench), [0, 0, 0]);
    let unmute = ["incident", "unmute", "history_lost", "--reason", "moved"];
    assert!(said(&bench, &unmute).contains("would be told again"));
    bench.turns(1, 2, well).await;
    said(&bench, &[&unmute[..], &["--execute"]].concat());
    bench.turns(1, 3, well).await;
    assert_eq!(told(&bench), [0, 0, 0], "it is over, and nobody heard of it");
    let pending = "select count(*) from tidemark.outbox where pending";
    assert_eq!(bench.world.scalar::<i64>(pending).await, 0);

    // The same incident again, heard of before it is muted.
    bench.turns(10, 3, lost).await;
    let before = told(&bench);
    assert_eq!((before[0], before[2]), (1, 1));
    said(&bench, &[&MUTE[..], &["--execute"]].concat());
    bench.turns(31, 3, well).await;
    assert_eq!(told(&bench), before, "its end is not told yet");
    said(&bench, &[&unmute[..], &["--execute"]].concat());
    bench.turns(61, 2, well).await;
    assert!(header(&bench.only_root()).starts_with('🟢'), "whoever saw it begin sees it end");
    let recorded = "select count(*) from tidemark.command where verb like 'incident %mute' and \
                    done_at is not null and actor <> '' and reason <> '' and stream = ''";
    assert_eq!(bench.world.scalar::<i64>(recorded).await, 4);
}

#[tokio::test]
async fn a_window_of_maintenance_holds_for_its_codes() {
    let (from, until) = (Utc::now() - TimeDelta::minutes(1), Utc::now() + TimeDelta::minutes(30));
    let window = format!(
        "[[alert.maintenance]]\nname = \"move\"\nfrom = \"{}\"\nuntil = \"{}\"\n\
         codes = [\"history_lost\"]\n",
        from.format("%Y-%m-%dT%H:%M:%SZ"),
        until.format("%Y-%m-%dT%H:%M:%SZ")
    );
    let mut bench = bench(&window).await;
    bench.turns(60, 28, lost).await;
    assert_eq!(told(&bench), [0, 0, 0]);
    let list = said(&bench, &["incident", "list"]);
    assert!(list.contains("muted: history_lost until") && list.contains("alert.maintenance: move"));
    bench.turns(60, 4, lost).await;
    assert_eq!(header(&bench.only_root()), "🔴 recommendation: history lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_hears_it_and_its_heartbeat_does_not() {
    let fakes = Fakes::start().unwrap();
    let extra = format!(
        "alert.heartbeat.url = {:?}\nalert.heartbeat.interval = \"1s\"\n\
         target.connections_max = 8\n",
        fakes.heartbeat_url()
    );
    let world = world(&fakes, &extra).await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    until("the heart beats", &world, || fakes.pings() > 1).await;
    let mute = ["incident", "mute", "all", "--until", "60s", "--by", "Mary", "--reason", "drill"];
    let (code, told) = run(&world, &[&mute[..], &["--execute"]].concat());
    assert!(code == Some(0) && told.contains("all is not told until"), "{told}");
    let heard = async || daemon.status().await["mutes"][0]["by"] == "Mary";
    crate::support::eventually("the daemon has heard it", heard).await;
    world.execute("alter table doctor alter column first_name type integer using null").await;
    world.collection("doctorsForDB").insert_one(doctor()).await.unwrap();
    let open = until_incident(&daemon, "it is shown", |open| !open.is_empty()).await;
    assert_eq!(open[0]["muted"]["by"], "Mary", "{open:#?}");
    let pings = fakes.pings();
    assert!(fakes.messages().is_empty() && fakes.events().is_empty());
    until("it is told at the end", &world, || !fakes.roots().is_empty()).await;
    assert!(fakes.pings() <= pings + 2, "a critical incident that nobody is on stops it");
    let is_over = async || !daemon.get("/").await.1.contains("not told until");
    crate::support::eventually("the page says no more of it", is_over).await;
}

fn doctor() -> mongodb::bson::Document {
    devstack::revalidation::doctor(&mut fastrand::Rng::with_seed(13), 1)
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_the_way_to_say_it() {
    let world = World::new().await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    let says = |arguments: &[&str], code: i32, what: &str| {
        let (got, told) = run(&world, &[&["incident"], arguments].concat());
        assert!(got == Some(code) && told.contains(what), "{arguments:?}: {got:?} {told}");
    };
    let rest = ["--until", "1h", "--by", "Mary", "--reason", "x"];
    says(&[&["mute", "history_lots"], &rest[..]].concat(), 2, "did you mean history_lost?");
    says(&[&["mute", "all", "--stream", "other"], &rest[..]].concat(), 1, "no stream other");
    says(&["mute", "all", "--until", "8days", "--by", "M", "--reason", "x"], 2, "7 days");
    says(&["mute", "all", "--until", "1h", "--reason", "x"], 2, "--by");
    says(&["unmute", "all", "--reason", "x"], 1, "all is not muted by a person");
    for (window, what) in [
        ("name = \"a\"\nfrom = \"22:00\"\nuntil = \"2026-11-22T22:30:00Z\"\n", "both be times"),
        ("name = \"a\"\nfrom = \"22:00\"\nuntil = \"23:00\"\ndays = [\"Sunsday\"]\n", "days such"),
        ("name = \"a\"\nfrom = \"22:00\"\nuntil = \"23:00\"\ncodes = [\"stale\"]\n", "is no code"),
        (
            "name = \"a\"\nfrom = \"22:00\"\nuntil = \"23:00\"\nday = \"Sun\"\n",
            "did you mean days?",
        ),
        (
            "name = \"a\"\nfrom = \"2026-11-22T22:30:00Z\"\nuntil = \"2026-11-22T22:00:00Z\"\n",
            "must be later than from",
        ),
    ] {
        let extra = format!("[[alert.maintenance]]\n{window}");
        let world = world.beside(&Config { extra, ..Config::default() });
        let (code, told) = run(&world, &["check", "--offline"]);
        assert!(code == Some(78) && told.contains(what), "{window}: {told}");
    }
}
