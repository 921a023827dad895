//! Guarantee 12: no secret and no document content in logs, errors, metrics, the status, Slack or Sentry.

use devstack::{Behaviour, Fakes, Stack};
use mongodb::bson::{Bson, Document, doc};

use crate::alerting::{DOCTORS, lose_the_position, until, until_incident};
use crate::support::{Config, World, run};

/// In every secret and every document.
const CANARY: &str = "c4n4ry";

async fn world(fakes: &Fakes, uri: &str, url: &str, extra: &str) -> World {
    let quick = "alert.resolve_hold = \"1s\"\nretry.escalate_after = \"1s\"\nretry.delay_max = \"300ms\"\n\
         record.dead_letter_count_min = 5\nrecord.dead_letter_fraction_max = 0.0001\nlog.filter = \"debug\"\n";
    let alert = format!(
        "alert.slack.bot_token = \"xoxb-{CANARY}\"\nalert.slack.channel = \"C0FAKE\"\n\
         alert.slack.api_base = \"{0}/slack/api\"\nalert.slack.webhook_url = \"{0}/slack/webhook/B0FAKE?{CANARY}\"\n\
         alert.sentry.dsn = {1:?}\nalert.heartbeat.url = \"{0}/heartbeat/{CANARY}\"\nalert.heartbeat.interval = \"1s\"\n",
        fakes.base(),
        fakes.dsn(),
    );
    World::of(uri, url, Config { extra: format!("{quick}{alert}{extra}"), ..Config::default() }).await
}

/// Nothing that this world's daemons and commands said or sent holds the canary.
fn nothing_leaked(world: &World, fakes: &Fakes, said: &[String]) {
    let sent = fakes.raw();
    for text in said.iter().chain([&sent, &world.logs()]) {
        let at = text.find(CANARY).unwrap_or_default();
        let from = text.floor_char_boundary(at.saturating_sub(300));
        let to = text.floor_char_boundary((at + 100).min(text.len()));
        assert!(!text.contains(CANARY), "the canary is in: …{}…", &text[from..to]);
    }
}

fn everywhere(id: &str) -> Document {
    doc! {
        "_id": format!("{CANARY}{id}"), "doctorLastName": CANARY, "doctorStatus": CANARY, "admin": { "n": CANARY },
        "submissionDate": CANARY, "existsInGmc": format!("{CANARY}?"), format!("{CANARY} 1234567"): [CANARY],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_documents_is_told_to_nobody() {
    let stack = Stack::shared();
    let fakes = Fakes::start().unwrap();
    let database = stack.postgres.database().await.unwrap();
    let url = format!("{}?options=-c%20tidemark.canary%3D{CANARY}", stack.postgres.url(&database));
    let world = world(&fakes, &stack.mongo.uri(), &url, "compare.interval = \"1s\"\n").await;
    let doctors = world.collection(DOCTORS);
    for n in 0..30 {
        doctors.insert_one(everywhere(&n.to_string())).await.unwrap();
    }
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world.execute("alter table public.doctor add constraint picky check (last_name <> 'c4n4ry2')").await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    // Dead letters, then their rate; drift; a divergence; a lost history: every kind that sees documents.
    let bad = doc! { "$set": { "doctorLastName": "c4n4ry2", "admin": Bson::Int32(3) } };
    doctors.update_one(doc! { "_id": "c4n4ry1" }, bad.clone()).await.unwrap();
    until_incident(&daemon, "dead letters", |i| i.iter().any(|i| i["code"] == "dead_letters")).await;
    world.execute("update public.doctor set doc = '{}' where id = 'c4n4ry4'").await;
    until_incident(&daemon, "a divergence", |i| i.iter().any(|i| i["code"] == "divergence_found")).await;
    doctors.update_many(doc! {}, bad).await.unwrap();
    until_incident(&daemon, "their rate", |i| i.iter().any(|i| i["code"] == "dead_letter_rate")).await;
    let said = vec![daemon.get("/status").await.1, daemon.get("/metrics").await.1, daemon.get("/").await.1];
    daemon.stop();
    world.execute("alter table public.doctor drop constraint picky").await;
    lose_the_position(&world, "doctor").await;
    let daemon = world.start();
    until("the loss is told", &world, || fakes.raw().contains("history lost")).await;
    daemon.until_phase("doctor", "streaming").await;
    let mut said = said;
    for command in
        [&["status"][..], &["check"], &["incident", "list", "--json"], &["check", "--print"], &["alert", "test"]]
    {
        said.push(run(&world, command).1);
    }
    said.push(daemon.log());
    nothing_leaked(&world, &fakes, &said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_uris_and_tokens_is_told_to_nobody() {
    let stack = Stack::shared();
    let fakes = Fakes::start().unwrap();
    fakes.slack(Behaviour::Status(500));
    let database = stack.postgres.database().await.unwrap();
    let port = stack.postgres.port();
    let url =
        format!("postgres://tidemark:{CANARY}@127.0.0.1:{port}/{database}?options=-c%20tidemark.canary%3D{CANARY}");
    let uri = format!("mongodb://user:{CANARY}@127.0.0.1:{}/?directConnection=true", stack.mongo.port());
    let refused = world(&fakes, &uri, &url, "").await;
    let daemon = refused.start();
    until("the refusal is told", &refused, || {
        fakes.events().iter().any(|e| e["tags"]["code"] == "source_unauthorised")
    })
    .await;
    let mut said = vec![daemon.get("/status").await.1, daemon.get("/metrics").await.1, daemon.log()];
    for command in [&["status"][..], &["check"], &["check", "--print"], &["alert", "test"]] {
        said.push(run(&refused, command).1);
    }
    drop(daemon);
    nothing_leaked(&refused, &fakes, &said);
    // URIs that cannot be parsed are not quoted either.
    for (uri, url) in [
        (format!("mongodb://user:{CANARY}@@@/"), url.clone()),
        (format!("mongodb://127.0.0.1/?{CANARY}={CANARY}"), url.clone()),
        (stack.mongo.uri(), format!("{url}&{CANARY}={CANARY}")),
        (stack.mongo.uri(), format!("postgres://tidemark:{CANARY}@127.0.0.1:notaport/x")),
        (stack.mongo.uri(), format!("postgres://tidemark@127.0.0.1:{port}/x?sslmode={CANARY}")),
    ] {
        let toml = format!("source.uri = {uri:?}\ntarget.url = {url:?}\nlog.filter = \"debug\"\n");
        std::fs::write(&refused.config, toml).unwrap();
        for command in [&["run"][..], &["check"], &["status"], &["check", "--print", "--offline"]] {
            let (code, text) = run_briefly(&refused, command);
            assert_ne!(code, Some(101), "{text}");
            nothing_leaked(&refused, &fakes, &[text]);
        }
    }
}

/// A command that may go on for ever is ended after two seconds.
fn run_briefly(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new("timeout");
    command.arg("2").arg(env!("CARGO_BIN_EXE_tidemark")).args(arguments).arg("--config").arg(&world.config);
    let output = command.output().unwrap();
    (output.status.code(), crate::support::text(&output))
}
