//! Traces and metrics by OTLP: what a collector gets, that it holds nothing of a document, and that
//! one that is away costs the streams nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use devstack::revalidation::{DOCTORS, Revalidation};
use devstack::{Behaviour, COLLECTOR_HEADERS, Collector};
use mongodb::bson::doc;
use serde_json::Value;

use crate::alerting::until;
use crate::support::{Config, World, run};

fn collected(endpoint: &str) -> Config {
    let extra = format!(
        "telemetry.endpoint = \"{endpoint}\"\ntelemetry.interval = \"1s\"\n\
         telemetry.headers = \"{COLLECTOR_HEADERS}\"\n"
    );
    Config { extra, ..Config::default() }
}

fn attribute<'a>(span: &'a Value, name: &str) -> Option<&'a str> {
    let attributes = span["attributes"].as_array()?;
    let value = &attributes.iter().find(|attribute| attribute["key"] == name)?["value"];
    value["stringValue"].as_str().or_else(|| value["intValue"].as_str())
}

/// A metric's newest value for a stream.
fn newest(collector: &Collector, name: &str, stream: &str) -> Option<f64> {
    let metrics = collector.metrics();
    let metric = metrics.iter().rfind(|metric| metric["name"] == name)?;
    let points =
        metric["sum"]["dataPoints"].as_array().or(metric["gauge"]["dataPoints"].as_array());
    let of = points?.iter().filter(|point| attribute(point, "stream") == Some(stream));
    Some(of.filter_map(|point| point["asDouble"].as_f64()).sum())
}

/// Which of the metrics that are served were not sent yet, by their names.
fn missing(collector: &Collector, served: &str) -> Vec<String> {
    let is_known = |line: &&str| !line.ends_with("NaN");
    let metric = |line: &str| line.split(['{', ' ']).next().unwrap().to_owned();
    let lines = served.lines().filter(|line| !line.starts_with('#')).filter(is_known);
    let served: BTreeSet<String> = lines.map(metric).collect();
    let mut sent = BTreeSet::new();
    for metric in collector.metrics() {
        let name = metric["name"].as_str().unwrap();
        let ends =
            if metric["histogram"].is_null() { &[""][..] } else { &["_bucket", "_sum", "_count"] };
        sent.extend(ends.iter().map(|end| format!("{name}{end}")));
    }
    served.difference(&sent).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_batches_walks_commands_and_every_metric_and_nothing_of_a_document() {
    let collector = Collector::start().unwrap();
    let world = World::with(collected(&collector.endpoint())).await;
    let mut data = Revalidation::new(world.source.clone(), 17);
    data.load(60, 20).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    let canary = "hunter2-canary";
    let doctor = doc! { "_id": canary, "doctorLastName": canary, "admin": canary };
    world.collection(DOCTORS).insert_one(doctor).await.unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    let (code, told) = run(&world, &["resync", "doctor", "--reason", "try", "--execute"]);
    assert_eq!(code, Some(0), "{told}");

    let names = || -> BTreeSet<String> {
        let spans = collector.spans();
        spans.iter().filter_map(|span| Some(span["name"].as_str()?.to_owned())).collect()
    };
    let wanted = ["apply", "batch", "chunk", "command", "commit", "encode", "walk"];
    until("each kind of span came", &world, || wanted.iter().all(|name| names().contains(*name)))
        .await;
    until("the resync has ended", &world, || {
        let spans = collector.spans();
        let walks: Vec<_> = spans.iter().filter(|span| span["name"] == "walk").collect();
        let of = |reason| walks.iter().any(|w| attribute(w, "tidemark.reason") == Some(reason));
        of("first_snapshot") && of("requested")
    })
    .await;
    let spans = collector.spans();
    let of = |name: &str| spans.iter().filter(|span| span["name"] == name).collect::<Vec<_>>();
    for (part, whole) in
        [("encode", "batch"), ("apply", "batch"), ("commit", "apply"), ("chunk", "walk")]
    {
        // The whole ends after its part, and may be on its way.
        let found = of(part).iter().any(|part| {
            of(whole).iter().any(|whole| {
                part["parentSpanId"] == whole["spanId"] && part["traceId"] == whole["traceId"]
            })
        });
        assert!(found, "{part} is a part of {whole}");
    }
    assert!(of("batch").iter().any(|batch| attribute(batch, "tidemark.events") == Some("1")));
    assert!(of("command").iter().all(|span| attribute(span, "tidemark.verb") == Some("resync")));

    // The same as who asks for them gets.
    let name = "tidemark_events_applied_total";
    until("the metrics came", &world, || {
        newest(&collector, name, "doctor").is_some_and(|events| events > 0.0)
    })
    .await;
    // What has begun since the last of them were sent comes with the next.
    let served = daemon.get("/metrics").await.1;
    until("each of them came", &world, || missing(&collector, &served).is_empty()).await;

    let resources = collector.resources();
    let of = |name: &str| {
        let all = resources.iter().map(|attributes| {
            attribute(&serde_json::json!({ "attributes": attributes }), name).map(str::to_owned)
        });
        all.collect::<BTreeSet<_>>()
    };
    assert_eq!(of("service.name"), BTreeSet::from([Some("tidemark".to_owned())]));
    assert_eq!(of("deployment.environment.name"), BTreeSet::from([Some("development".to_owned())]));
    assert_eq!(collector.refused(), Vec::<String>::new());
    let raw = collector.raw();
    assert!(raw.contains("tidemark.events") && !raw.contains(canary), "{canary} was sent");
    assert_eq!(daemon.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_or_hangs_costs_nothing_and_is_told_of_once() {
    let collector = Collector::start().unwrap();
    collector.behave(Behaviour::Hangs);
    let world = World::with(collected(&collector.endpoint())).await;
    let mut data = Revalidation::new(world.source.clone(), 18);
    data.load(40, 10).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    // Changes that came and arrived while one and the same request had no answer. A machine that
    // has other work may be slow now and then.
    let (mut meanwhile, begun) = (0, Instant::now());
    for n in 0.. {
        until("a request has no answer", &world, || collector.waiting().0 > 0).await;
        let (_, before) = collector.waiting();
        world.collection(DOCTORS).insert_one(doc! { "_id": format!("d{n}") }).await.unwrap();
        world.until_equal(DOCTORS, "public.doctor").await;
        meanwhile += i32::from(collector.waiting().1 == before);
        if meanwhile == 3 {
            break;
        }
        let is_early = begun.elapsed() < Duration::from_secs(120);
        assert!(is_early, "of {n} changes {meanwhile} arrived before a request had timed out");
    }
    collector.behave(Behaviour::Status(503));
    until("it is told", &world, || daemon.log().contains("the collector does not take them")).await;
    let asked = collector.asked();
    until("it is tried again", &world, || collector.asked() > asked + 3).await;
    let told = daemon.log().matches("the collector does not take them").count();
    assert!(told <= 2, "once a signal: {told}");
    collector.behave(Behaviour::Normal);
    until("it is over", &world, || daemon.log().contains("the collector takes them again")).await;
    world.collection(DOCTORS).insert_one(doc! { "_id": "last" }).await.unwrap();
    until("spans come again", &world, || {
        collector.spans().iter().any(|span| span["name"] == "batch")
    })
    .await;
    world.until_equal(DOCTORS, "public.doctor").await;
    assert_eq!(collector.refused(), Vec::<String>::new());
    assert_eq!(daemon.stop().0, Some(0));
}

#[tokio::test]
async fn an_endpoint_in_clear_text_is_taken_only_where_it_is_meant() {
    let config = |more: &str| Config {
        extra: format!("telemetry.endpoint = \"http://collector:4318\"\n{more}"),
        ..Config::default()
    };
    let world = World::with(config("")).await;
    let (code, told) = run(&world, &["check", "--offline"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("telemetry.endpoint") && told.contains("telemetry.insecure"), "{told}");
    world.configure(&config("telemetry.insecure = true\n"));
    let (code, told) = run(&world, &["check", "--offline"]);
    assert_eq!(code, Some(0), "{told}");
    world.configure(&config("telemetry.insecure = true\ntelemetry.headers = \"hunter2\"\n"));
    let (code, told) = run(&world, &["check", "--offline"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("must be name=value") && !told.contains("hunter2"), "{told}");
}

#[tokio::test]
async fn check_says_whether_the_collector_takes_what_is_sent() {
    let collector = Collector::start().unwrap();
    let world = World::with(collected(&collector.endpoint())).await;
    let told = || run(&world, &["check"]).1;
    let lines =
        |told: &str, begin: &str| told.lines().filter(|line| line.starts_with(begin)).count();
    let all = told();
    assert_eq!(lines(&all, "ok     collector of "), 2, "{all}");
    collector.behave(Behaviour::Status(401));
    let all = told();
    assert_eq!(lines(&all, "FAILED collector of "), 2, "{all}");
    assert!(all.contains("answers with 401") && all.contains("see [telemetry]"), "{all}");
    assert!(!all.contains(COLLECTOR_HEADERS), "no secret: {all}");
    assert!(collector.metrics().is_empty(), "nothing was sent");
    drop(collector);
    let all = told();
    assert_eq!(
        lines(&all, "FAILED collector of ") + lines(&all, "DOWN   collector of "),
        2,
        "{all}"
    );
}
