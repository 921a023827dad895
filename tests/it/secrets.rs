//! Guarantee 12: no secret and no document content in logs, errors, metrics, the status, Slack or
//! Sentry.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use devstack::{Behaviour, Fakes, Stack};
use mongodb::bson::{Bson, Document, doc};

use crate::alerting::{DOCTORS, until, until_incident};
use crate::support::{Config, World, run, state};

/// In every secret and every document.
const CANARY: &str = "c4n4ry";

fn config(fakes: &Fakes, extra: &str) -> Config {
    let quick = "alert.resolve_hold = \"1s\"\nretry.escalate_after = \"1s\"\nretry.delay_max = \
                 \"300ms\"\nrecord.dead_letter_count_min = 5\nrecord.dead_letter_fraction_max = \
                 0.0001\nlog.filter = \"trace\"\n";
    let alert = format!(
        "alert.slack.bot_token = \"xoxb-{CANARY}\"\nalert.slack.channel = \"C0FAKE\"\n\
         alert.slack.api_base = \"{0}/slack/api\"\nalert.slack.webhook_url \
         = \"{0}/slack/webhook/B0FAKE?{CANARY}\"\n\
         alert.sentry.dsn = {1:?}\nalert.heartbeat.url \
         = \"{0}/heartbeat/{CANARY}\"\nalert.heartbeat.interval = \"1s\"\n",
        fakes.base(),
        fakes.dsn(),
    );
    Config { apart: true, extra: format!("{quick}{alert}{extra}"), ..Config::default() }
}

/// The canary as it is, in hex of either case, and in base64 wherever it begins among the bytes.
fn disguises() -> Vec<String> {
    let hex = tidemark::model::position::hex(CANARY.as_bytes());
    let mut all = vec![CANARY.to_owned(), hex.to_uppercase(), hex];
    for before in 0..3 {
        let bytes = [&vec![0; before][..], CANARY.as_bytes()].concat();
        // What is the canary's alone: without the characters that its neighbours share.
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for engine in [&STANDARD, &URL_SAFE] {
            all.push(engine.encode(&bytes)[from..to].to_owned());
        }
    }
    all
}

/// Nothing that this world's daemons and commands said or sent holds the canary, however it is
/// written.
fn nothing_leaked(world: &World, fakes: &Fakes, said: &[String]) {
    let sent = fakes.raw();
    for text in said.iter().chain([&sent, &world.logs()]) {
        for disguise in disguises() {
            let at = text.find(&disguise).unwrap_or_default();
            let from = text.floor_char_boundary(at.saturating_sub(300));
            let to = text.floor_char_boundary((at + 100).min(text.len()));
            assert!(
                !text.contains(&disguise),
                "the canary is in, as {disguise}: …{}…",
                &text[from..to]
            );
        }
    }
}

/// What stands in the database for people and for other processes: all but what is there to be
/// repaired or gone back to.
async fn told_in_the_database(world: &World) -> Vec<String> {
    let mut told = Vec::new();
    for rows in [
        "tidemark.incident",
        "tidemark.outbox",
        "tidemark.lease",
        "tidemark.command",
        "tidemark.process",
        "tidemark.watch",
        "tidemark.attempt",
        "(select to_jsonb(r) - 'sample_ids' - 'walk_after' from tidemark.resync as r)",
        "(select to_jsonb(l) - 'document_id' - 'event' from tidemark.dead_letter as l)",
        "(select to_jsonb(c) - 'token' - 'resume_token' from tidemark.checkpoint as c)",
        "(select to_jsonb(h) - 'token' - 'resume_token' from tidemark.checkpoint_history as h)",
    ] {
        told.extend(world.column(&format!("select t::text from {rows} as t")).await);
    }
    told
}

fn everywhere(id: &str) -> Document {
    doc! {
        "_id": format!("{CANARY}{id}"),
        "doctorLastName": CANARY, "doctorStatus": CANARY, "admin": { "n": CANARY },
        "submissionDate": CANARY, "existsInGmc": format!("{CANARY}?"),
        format!("{CANARY} 1234567"): [CANARY],
        format!("{CANARY}{id}"): { format!("{CANARY}.$key"): CANARY },
        format!("$x{CANARY}{id}"): Bson::Null,
    }
}

/// What people ask that has no need to name a document.
fn commands() -> Vec<String> {
    let now = chrono::Utc::now().to_rfc3339();
    let rewind = format!("checkpoint|rewind|doctor|--to|{now}|--reason|look");
    let fixed = [
        "status",
        "status|--json",
        "check",
        "check|--json",
        "check|--print",
        "incident|list",
        "incident|list|--json",
        "incident|show|1",
        "incident|show|1|--json",
        "resync|list",
        "resync|doctor|--reason|look",
        "checkpoint|history|doctor",
        "source|adopt|doctor|--reason|look",
        "purge|--before|1h",
        "alert|test",
    ];
    fixed.map(str::to_owned).into_iter().chain([rewind]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_documents_is_told_to_nobody() {
    let stack = Stack::shared();
    let fakes = Fakes::start().unwrap();
    let database = stack.postgres.database().await.unwrap();
    let url = stack.postgres.url(&database);
    let compared = config(&fakes, "compare.interval = \"1s\"\n");
    let world = World::of(&stack.mongo.uri(), &url, compared).await;
    let doctors = world.collection(DOCTORS);
    for n in 0..30 {
        doctors.insert_one(everywhere(&n.to_string())).await.unwrap();
    }
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world
        .execute("alter table public.doctor add constraint picky check (last_name <> 'c4n4ry2')")
        .await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    // Dead letters, then their rate; drift; a divergence; a lost history: every kind that sees
    // documents.
    let bad = doc! { "$set": { "doctorLastName": "c4n4ry2", "admin": Bson::Int32(3) } };
    doctors.update_one(doc! { "_id": "c4n4ry1" }, bad.clone()).await.unwrap();
    until_incident(&daemon, "dead letters", |i| i.iter().any(|i| i["code"] == "dead_letters"))
        .await;
    world.execute("update public.doctor set doc = '{}' where id = 'c4n4ry4'").await;
    until_incident(&daemon, "a divergence", |i| i.iter().any(|i| i["code"] == "divergence_found"))
        .await;
    doctors.update_many(doc! {}, bad).await.unwrap();
    until_incident(&daemon, "their rate", |i| i.iter().any(|i| i["code"] == "dead_letter_rate"))
        .await;
    let status = daemon.get("/status").await.1;
    assert!(status.contains("…#"), "a position is shown: {status}");
    let mut said = vec![status, daemon.get("/metrics").await.1, daemon.get("/").await.1];
    daemon.stop();
    said.push(daemon.log());
    assert!(said[3].contains("TRACE"), "the log tells all it can");
    said.extend(told_in_the_database(&world).await);
    world.execute("alter table public.doctor drop constraint picky").await;
    state::lose_position(&world, "doctor").await;
    // From here on a position stays that of the last event, whose token holds the canary.
    let world = world.beside(&config(&fakes, "checkpoint.idle_interval = \"1h\"\n"));
    let daemon = world.start();
    until("the loss is told", &world, || fakes.raw().contains("history lost")).await;
    daemon.until_phase("doctor", "streaming").await;
    doctors.insert_one(everywhere("last")).await.unwrap();
    let (token, report) = (state::position("token", "doctor"), state::group_report("doctor"));
    let last = format!("select ({token}) like '%63346E347279%'");
    world.until("the last position is an event's", &last).await;
    world
        .until(
            "and its report is of it",
            &format!(
                "select left(({report}) #>> '{{position,resume_token}}', 18) = left(({token}), 18)"
            ),
        )
        .await;
    said.push(daemon.get("/status").await.1);
    // Who asks for the token has it whole.
    assert!(run(&world, &["checkpoint", "show", "doctor"]).1.contains("63346E347279"));
    for command in &commands() {
        let words: Vec<&str> = command.split('|').collect();
        said.push(run(&world, &words).1);
    }
    said.push(daemon.log());
    said.extend(told_in_the_database(&world).await);
    nothing_leaked(&world, &fakes, &said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_uris_and_tokens_is_told_to_nobody() {
    let stack = Stack::shared();
    let fakes = Fakes::start().unwrap();
    fakes.slack(Behaviour::Status(500));
    let database = stack.postgres.database().await.unwrap();
    let port = stack.postgres.port();
    let url = format!("postgres://tidemark:{CANARY}@127.0.0.1:{port}/{database}");
    let uri =
        format!("mongodb://user:{CANARY}@127.0.0.1:{}/?directConnection=true", stack.mongo.port());
    let refused = World::of(&uri, &url, config(&fakes, "")).await;
    let daemon = refused.start();
    until("the refusal is told", &refused, || {
        fakes.events().iter().any(|e| e["tags"]["code"] == "source_unauthorised")
    })
    .await;
    let mut said =
        vec![daemon.get("/status").await.1, daemon.get("/metrics").await.1, daemon.log()];
    for command in [&["status"][..], &["check"], &["check", "--print"], &["alert", "test"]] {
        said.push(run(&refused, command).1);
    }
    drop(daemon);
    nothing_leaked(&refused, &fakes, &said);
    // URIs that cannot be parsed are not quoted either.
    for (uri, url) in [
        (format!("mongodb://user:{CANARY}@@@/"), url.clone()),
        (format!("mongodb://127.0.0.1/?{CANARY}={CANARY}"), url.clone()),
        (stack.mongo.uri(), format!("{url}?{CANARY}={CANARY}")),
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
    command
        .arg("2")
        .arg(env!("CARGO_BIN_EXE_tidemark"))
        .args(arguments)
        .arg("--config")
        .arg(&world.config);
    let output = command.output().unwrap();
    (output.status.code(), crate::support::text(&output))
}
