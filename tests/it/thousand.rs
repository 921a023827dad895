//! Guarantee 16: cost follows changes, not streams. Three hundred collections in one process beside
//! a Postgres of thirty connections. `TIDEMARK_COLLECTIONS` says another number, to measure with.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use devstack::{Postgres, PostgresOptions, Stack};
use mongodb::bson::doc;

use crate::support::{
    Config, Daemon, World, cpu_seconds, eventually, peak_bytes, run, source, stream,
};

/// How long the daemon is looked at while nothing changes.
const REST: Duration = Duration::from_secs(10);

fn many() -> usize {
    let given = std::env::var("TIDEMARK_COLLECTIONS").ok();
    given.and_then(|given| given.parse().ok()).unwrap_or(300)
}

const DOCUMENTS: i32 = 20;

fn name(number: usize) -> String {
    format!("c{number:03}")
}

async fn fill(world: &World) {
    let filling = (0..many()).map(|number| {
        let collection = world.collection(&name(number));
        async move {
            let documents = (0..DOCUMENTS).map(|n| doc! { "_id": n, "n": n });
            collection.insert_many(documents).await.unwrap();
        }
    });
    // The driver's pool sets the pace.
    futures_util::future::join_all(filling).await;
}

async fn sessions(world: &World) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and \
               application_name = 'tidemark'";
    world.scalar(sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_collections_are_followed_by_one_change_stream_and_few_connections() {
    let options = PostgresOptions {
        settings: vec!["max_connections=30".to_owned()],
        ..PostgresOptions::default()
    };
    let postgres = Postgres::start(&options).unwrap();
    let url = postgres.url(&postgres.database().await.unwrap());
    let column = "column = [ { name = \"n\", field = \"n\", type = \"integer\" } ]";
    let streams: String = (0..many()).map(|n| stream(&name(n), &name(n), column)).collect();
    let config = Config { streams, ..Config::default() };
    let world = World::of(&Stack::shared().mongo.uri(), &url, config).await;
    fill(&world).await;
    assert_eq!(run(&world, &["migrate"]).0, Some(0));

    let mut daemon = world.start();
    until_streaming(&world, &daemon).await;
    is_frugal(&world).await;
    is_at_rest(&world, &daemon).await;
    changes_are_followed(&world).await;
    is_bounded(&daemon).await;
    assert_eq!(daemon.stop().0, Some(0));
    world.source.drop().await.unwrap();
}

async fn until_streaming(world: &World, daemon: &Daemon) {
    let begun = Instant::now();
    let mut most = 0;
    loop {
        let status = daemon.status().await;
        let phases = status["streams"].as_array().unwrap().iter().map(|s| &s["phase"]);
        let left = phases.filter(|phase| *phase != "streaming").count();
        most = most.max(sessions(world).await);
        if left == 0 {
            break;
        }
        let deadline = Duration::from_secs(300);
        assert!(begun.elapsed() < deadline, "{left} are not streaming yet\n{}", world.logs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("all streaming after {:.1?}, {most} sessions at most", begun.elapsed());
    assert!(most <= 12, "{most} sessions");
}

async fn is_frugal(world: &World) {
    let opened = async || source::change_streams(world).await == 1;
    eventually("one change stream", opened).await;
    // What was opened for the first walks is closed in a while.
    let few = async || {
        let (here, there) = (sessions(world).await, source::connections(world).await);
        println!("at rest {here} sessions, {there} connections to the source");
        here <= 6 && there <= 8
    };
    eventually("few sessions, few connections to the source", few).await;
    let rows: (i64, i64) = world
        .row(
            "select (select count(*) from tidemark.lease), (select count(*) from \
             tidemark.checkpoint)",
        )
        .await;
    assert_eq!(rows, (1, 1), "leases and positions");
}

async fn is_at_rest(world: &World, daemon: &Daemon) {
    let wal = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint";
    let wal = async || world.scalar::<i64>(wal).await;
    let (begun, before, written) = (Instant::now(), cpu_seconds(daemon), wal().await);
    tokio::time::sleep(REST).await;
    let (used, took) = (cpu_seconds(daemon) - before, begun.elapsed());
    let (share, written) = (used / took.as_secs_f64(), wal().await - written);
    println!("at rest {:.1} % of a core, {written} bytes of WAL in {took:.1?}", share * 100.0);
    assert!(share < 0.2, "{share} of a core at rest");
}

/// A change in any of them, and one in all at once.
async fn changes_are_followed(world: &World) {
    for number in BTreeSet::from([0, many() / 2, many() - 1]) {
        world.collection(&name(number)).insert_one(doc! { "_id": 100, "n": 1 }).await.unwrap();
        let seen = format!("select count(*) = 21 from public.{}", name(number));
        world.until("a change is seen", &seen).await;
    }
    let mut session = world.source.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    for number in 0..many() {
        let set = doc! { "$set": { "n": 1_000 } };
        let collection = world.collection(&name(number));
        collection.update_one(doc! { "_id": 3 }, set).session(&mut session).await.unwrap();
    }
    session.commit_transaction().await.unwrap();
    let last = format!("select count(*) = 1 from public.{} where n = 1000", name(many() - 1));
    world.until("the transaction is there", &last).await;
    let written: Vec<String> = (0..many())
        .map(|number| format!("select xmin::text from public.{} where n = 1000", name(number)))
        .collect();
    let whole = format!(
        "select count(*) || ' rows of ' || count(distinct xmin) from ({}) as rows",
        written.join(" union all ")
    );
    assert_eq!(world.scalar::<String>(&whole).await, format!("{} rows of 1", many()));
    for number in (0..many()).step_by(17) {
        world.until_equal(&name(number), &format!("public.{}", name(number))).await;
    }
}

async fn is_bounded(daemon: &Daemon) {
    let metrics = daemon.get("/metrics").await.1;
    let page = daemon.get("/").await.1;
    println!(
        "{} MiB of memory, /metrics of {} kB, the page of {} kB",
        peak_bytes(daemon) >> 20,
        metrics.len() >> 10,
        page.len() >> 10
    );
    assert!(metrics.len() < 1 << 20 && page.len() < (16 << 10) + many() * 280);
    let last = name(many() - 1);
    let detail = daemon.get(&format!("/stream/{last}")).await.1;
    assert!(detail.contains(&format!("<h1>{last}</h1>")), "{detail}");
    assert!(peak_bytes(daemon) < 256 << 20, "{} bytes", peak_bytes(daemon));
}
