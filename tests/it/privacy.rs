//! Guarantee 12, beside the canaries: what is told goes only where it may, is read no further than
//! it must be, and ends; two services in one schema are none of each other's business.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use devstack::Fakes;
use mongodb::bson::doc;
use tidemark::alert::{Bot, Sent};
use tidemark::settings::{Origin, Settings};

use crate::support::{Config, Stopwatch, World, run, status_of_the_well, stream};

/// A server whose answer never ends; returns its port and how much of it was taken.
fn endless() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    std::thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let _ = socket.read(&mut [0; 8 << 10]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: \
                        application/json\r\n\r\n{\"ok\":true,\"error\":\"";
            let mut answer = socket.write_all(head.as_bytes());
            while answer.is_ok() {
                answer = socket.write_all(&[b'x'; 8 << 10]);
                count.fetch_add(8 << 10, Ordering::Relaxed);
            }
        }
    });
    (port, taken)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_without_an_end_is_not_read_to_the_end() {
    let (port, taken) = endless();
    let variable =
        |key: &str, value: &str| (format!("TIDEMARK__ALERT__SLACK__{key}"), value.to_owned());
    let variables = vec![
        variable("BOT_TOKEN", "xoxb-t"),
        variable("CHANNEL", "C1"),
        variable("API_BASE", &format!("http://127.0.0.1:{port}")),
    ];
    let settings = Settings::load(&Origin { variables, ..Origin::default() }).unwrap();
    let begun = Stopwatch::start();
    let sent = Bot::new(&settings.alert).unwrap().test_token().await;
    assert!(matches!(sent, Sent::Later { .. }), "{sent:?}");
    assert!(begun.elapsed() < Duration::from_secs(9), "it was given up, not waited for");
    assert!(taken.load(Ordering::Relaxed) < 16 << 20, "what no socket holds was not asked for");
}

#[tokio::test]
async fn notices_are_sent_by_https_or_to_this_machine_only() {
    let world = World::new().await;
    for (key, value) in [
        ("alert.slack.api_base", "http://slack.example.org/api"),
        ("alert.slack.webhook_url", "http://127.0.0.1@hooks.example.org/s3cret"),
        ("alert.heartbeat.url", "http://10.0.0.1/s3cret"),
        ("alert.sentry.dsn", "http://s3cret@sentry.example.org/42"),
        ("alert.heartbeat.url", "ftp://127.0.0.1/s3cret"),
    ] {
        std::fs::write(&world.config, format!("{key} = {value:?}\n")).unwrap();
        let (code, said) = run(&world, &["check", "--offline"]);
        let told = said.contains(key) && said.contains("https://") && !said.contains("s3cret");
        assert!(code == Some(78) && told, "{key} {value}: {said}");
    }
    std::fs::write(&world.config, "alert.slack.api_base = \"http://[::1]:7/api\"\n").unwrap();
    assert_eq!(run(&world, &["check", "--offline"]).0, Some(0));
}

const INCIDENT: &str = "insert into tidemark.incident (tag, environment, service, code, stream, \
                        severity, state, opened_at, summary, detail) values (gen_random_uuid(), \
                        'development', 'tidemark', 'target_full', null, 'critical', 'open', now(), \
                        's', '{\"since\": \"2026-11-21T05:29:00Z\", \"worst\": \"critical\", \
                        \"doing\": \"d\", \"action\": null, \"progress\": null, \"resync\": null, \
                        \"gap\": null, \"revision\": 1, \"last\": \"opened\", \"changed_at\": \
                        \"2026-11-21T05:29:00Z\", \"remind_at\": \"2026-11-21T05:29:00Z\", \
                        \"away_since\": null}')";

/// What records one, to be made another.
pub fn an_incident() -> String {
    INCIDENT.to_owned()
}

#[tokio::test]
async fn an_acknowledgement_ends_within_a_week_or_says_that_it_does_not() {
    let world = World::new().await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world.execute(INCIDENT).await;
    let ack = |rest: &[&str]| {
        run(&world, &[&["incident", "ack", "1", "--by", "Mary\u{1b}[2J"], rest].concat())
    };
    for (rest, why) in [
        (&["--until", "8days"][..], "--forever"),
        (&["--until", "9999-01-01T00:00:00Z"], "--forever"),
        (&["--until", "yesterday"], "no time to come"),
        (&[], "--until"),
        (&["--until", "4h", "--forever"], "cannot be used with"),
    ] {
        let (code, said) = ack(rest);
        assert!(code == Some(2) && said.contains(why), "{rest:?}: {code:?} {said}");
    }
    assert_eq!(world.scalar::<i64>("select count(*) from tidemark.command").await, 0);
    let (code, said) = ack(&["--until", "7days"]);
    assert!(code == Some(0) && said.contains(r"Mary\u{1b}[2J is on it until 2"), "{said}");
    let (code, said) = ack(&["--forever"]);
    assert!(code == Some(0) && said.contains("is on it until it is over"), "{said}");
    let (code, said) = run(&world, &["incident", "list"]);
    assert!(code == Some(0) && said.contains("acked") && !said.contains('\u{1b}'), "{said}");
    let (_, said) = run(&world, &["incident", "show", "1", "--json"]);
    assert!(said.contains(r"Mary\u001b[2J") && !said.contains('\u{1b}'), "{said}");
}

/// Waits until the watch of a service and environment has looked since `since`, and again.
async fn until_looked(world: &World, service: &str, environment: &str, since: &str) {
    let looked = format!(
        "select max(seen_at) > '{since}'::timestamptz + interval '4 seconds' from tidemark.process \
         where service = '{service}' and environment = '{environment}'"
    );
    world.until("the watch has looked since", &looked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_in_one_schema_are_none_of_each_others_business() {
    let quick = "alert.resolve_hold = \"1s\"\nretry.delay_max = \"300ms\"\n";
    let column = "[[stream.column]]\nname = \"n\"\nfield = \"n\"\ntype = \"integer\"";
    let doctors = stream("doctor", "doctorsForDB", column);
    let world = World::with(Config {
        extra: quick.to_owned(),
        streams: doctors.clone(),
        ..Config::default()
    })
    .await;
    let fakes = Fakes::start().unwrap();
    let extra = format!("service = \"other\"\n{quick}{}", fakes.config());
    let other = world.beside(&Config {
        extra: extra.clone(),
        streams: stream("patient", "patient", ""),
        ..Config::default()
    });
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let stranger = other.start();
    stranger.until_phase("patient", "streaming").await;
    let leads = "select count(*) = 2 from tidemark.watch";
    world.until("each has a watch of its own", leads).await;

    // An event set aside, then a halt: both are the first service's to tell.
    world.execute("alter table public.doctor add constraint picky check (n <> 7)").await;
    world.collection("doctorsForDB").insert_one(doc! { "_id": "a", "n": 7 }).await.unwrap();
    let told =
        |code: &str| format!("select count(*) = 1 from tidemark.incident where code = '{code}'");
    world.until("the letter is told", &told("dead_letters")).await;
    world.execute("alter table public.doctor drop column n").await;
    world.collection("doctorsForDB").insert_one(doc! { "_id": "b", "n": 8 }).await.unwrap();
    world.until("the halt is told", &told("target_schema_mismatch")).await;
    let since: String = world.scalar("select now()::text").await;
    until_looked(&world, "other", "development", &since).await;
    let of = world.column("select distinct service from tidemark.incident").await;
    assert_eq!(of, ["tidemark"]);
    let sent = fakes.raw();
    assert!(
        fakes.roots().is_empty() && fakes.events().is_empty() && !sent.contains("doctor"),
        "{sent}"
    );

    for (command, shows) in
        [(&["dead-letter", "list"][..], "picky"), (&["resync", "list"], "first_snapshot")]
    {
        let (own, others) = (run(&world, command).1, run(&other, command).1);
        assert!(
            own.contains("doctor") && own.contains(shows) && !others.contains("doctor"),
            "{own}{others}"
        );
    }
    for command in [
        &["dead-letter", "show", "1"][..],
        &["dead-letter", "discard", "1", "--reason", "x", "--execute"],
        &["incident", "show", "1"],
        &["incident", "ack", "1", "--by", "x", "--until", "1h"],
    ] {
        assert_eq!(run(&other, command).0, Some(1), "{command:?}");
    }
    // Its own stream is well.
    status_of_the_well(&other).await;
    let namesake = world.beside(&Config { extra, streams: doctors, ..Config::default() });
    refuses_another_services_stream(&namesake);
}

/// The same stream's name: refused with a sentence, whatever is asked.
fn refuses_another_services_stream(namesake: &World) {
    for command in [
        &["status"][..],
        &["check"],
        &["checkpoint", "show", "doctor"],
        &["checkpoint", "history", "doctor"],
        &["resync", "doctor", "--reason", "x"],
        &["dead-letter", "accept", "doctor", "--count", "1", "--reason", "x"],
        &["compare", "doctor"],
    ] {
        let (code, said) = run(namesake, command);
        let refused =
            said.contains("stream doctor belongs to service tidemark in environment development");
        assert!(code == Some(1) && refused, "{command:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_environments_do_not_count_each_others_deaths() {
    let world =
        World::with(Config { streams: stream("doctor", "doctorsForDB", ""), ..Config::default() })
            .await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world
        .execute(
            "insert into tidemark.process (id, service, environment, holder, version, started_at, \
             seen_at) select gen_random_uuid(), 'tidemark', 'staging', 'host/' || n, 'x', now() - \
             interval '2 minutes', now() - interval '1 minute' from generate_series(1, 5) as n",
        )
        .await;
    let since: String = world.scalar("select now()::text").await;
    let daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    until_looked(&world, "tidemark", "development", &since).await;
    let loops = "select count(*) from tidemark.incident where code = 'crash_loop' and environment \
                 = 'development'";
    assert_eq!(world.scalar::<i64>(loops).await, 0);
    let extra = "environment = \"staging\"".to_owned();
    let staging =
        world.beside(&Config { extra, streams: stream("other", "other", ""), ..Config::default() });
    let _daemon = staging.start();
    let loops = "select count(*) = 1 from tidemark.incident where code = 'crash_loop' and \
                 environment = 'staging'";
    world.until("its own deaths are counted", loops).await;
}
