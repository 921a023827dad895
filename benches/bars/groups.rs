//! Bars 10 to 12: what following many collections costs, in latency, at rest, and the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use devstack::{Postgres, PostgresOptions};
use futures_util::future::join_all;
use mongodb::Database;
use mongodb::bson::{Document, doc};

use crate::daemon::{Bench, Running, World};
use crate::load::{self, numbered};
use crate::table::{Bar, Limit, median};
use crate::visible::{Latencies, PAUSE, Watched, quantile};

/// Writes that are watched for in one measurement.
const WRITES: usize = 300;

/// The same at rest: of these, the one at p99 has thirty above it, so that it is another figure of
/// the same program by some tenths only. Of 300 it has three, and was between 3.4 and 7.0 ms in ten
/// parts of one run.
const WRITES_AT_REST: usize = 3_000;

/// Changes a second of the busy collection.
const BUSY: u32 = 5_000;

/// How long a daemon is looked at while nothing changes.
const REST: Duration = Duration::from_secs(30);

/// A thousand collections in one group beside a Postgres of thirty connections.
pub async fn thousand(bench: &Bench) -> Vec<Bar> {
    let options = PostgresOptions {
        settings: vec!["max_connections=30".to_owned()],
        ..PostgresOptions::durable()
    };
    let postgres = Postgres::start(&options).unwrap();
    let world = bench.world_at(&postgres, "thousand", &streams(1_000, |_| "main".into())).await;
    fill(&world.source, 1_000).await;
    let begun = Instant::now();
    let daemon = world.start().await;
    daemon.until_all("streaming").await;
    let mut bars = vec![Bar::new(
        "10 1,000 collections streaming after",
        begun.elapsed().as_secs_f64(),
        Limit::AtMost(60.0),
        "s",
    )];
    bars.extend(at_rest(bench, &world, &daemon).await);
    let mut watched = watch(&world, 1_000).await.beside_commits(&world.target_url).await;
    let quiet = watched.write(WRITES_AT_REST, PAUSE).await;
    let busy = beside_busy(&world, &mut watched).await;
    daemon.stop();
    let over = |share| quantile(&quiet.over_bare, share);
    let most = |name: &str, figure, limit| {
        Bar::new(format!("10 1,000 collections, {name}"), figure, Limit::AtMost(limit), "ms")
    };
    let after = |share| quantile(&quiet.after_acknowledged, share);
    let note = format!("{:.2} and {:.2} ms after the acknowledgement", after(0.50), after(0.99));
    bars.push(most("over a bare stream, p50", over(0.50), 2.0).with(note));
    let commit = |share| quantile(&quiet.of_commits, share);
    let note = format!("a bare commit beside each {:.2} and {:.2} ms", commit(0.50), commit(0.99));
    bars.push(most("over a bare stream, p99", over(0.99), 5.0).with(note));
    bars.push(busy_bar("10 1,000 collections", &busy));
    bars
}

/// The same of two collections: how soon a quiet one's writes are visible beside a busy one.
pub async fn two(bench: &Bench) -> Bar {
    let world = bench.world_of("two", &streams(2, |_| "main".into())).await;
    fill(&world.source, 2).await;
    let daemon = world.start().await;
    daemon.until_all("streaming").await;
    let mut watched = watch(&world, 2).await;
    let busy = beside_busy(&world, &mut watched).await;
    daemon.stop();
    busy_bar("7 2 collections", &busy)
}

/// Fifty collections followed as one group, and by a cursor and a connection each.
pub async fn fifty(bench: &Bench, rounds: usize) -> Vec<Bar> {
    let of_one = bench.world_of("one_cursor", &streams(50, |_| "main".into())).await;
    // Each group needs a connection of its own at least.
    let of_many = bench.world_of("fifty_cursors", &streams(50, numbered)).await;
    let of_many = of_many.with("target.connections_max = 120\n");
    let worlds = [of_one, of_many];
    let mut latencies = [Latencies::default(), Latencies::default()];
    let mut costs = [vec![], vec![]];
    let mut watched = [None, None];
    for world in &worlds {
        fill(&world.source, 50).await;
    }
    for _ in 0..rounds {
        for (place, world) in worlds.iter().enumerate() {
            let daemon = world.start().await;
            daemon.until_all("streaming").await;
            let watched = match &mut watched[place] {
                Some(watched) => watched,
                none => none.insert(watch(world, 50).await),
            };
            latencies[place].add(watched.write(WRITES / 3, PAUSE).await);
            costs[place].push(server_micros(bench, world, &numbered(7)).await);
            daemon.stop();
        }
    }
    let bar = |name: &str, (one, many): (f64, f64), unit: &str| {
        Bar::new(format!("11 50 collections, {name}"), one / many, Limit::AtMost(1.0), "")
            .with(format!("{one:.2} and {many:.2} {unit}"))
    };
    let after = |share| {
        let of = |place: usize| quantile(&latencies[place].after_acknowledged, share);
        (of(0), of(1))
    };
    vec![
        bar("visible, one cursor ÷ a cursor each, p50", after(0.50), "ms"),
        bar("visible, one cursor ÷ a cursor each, p99", after(0.99), "ms"),
        bar("the server's CPU a write, the same", (median(&costs[0]), median(&costs[1])), "µs"),
    ]
}

/// What a write costs the server while 200 collections are followed and while one is, the writes
/// the same: to a collection that both follow, and to one that neither follows.
pub async fn server(bench: &Bench, rounds: usize) -> Vec<Bar> {
    let name = devstack::unique("server");
    let one = bench.world_named(&bench.postgres, &name, &streams(1, |_| "main".into())).await;
    let many = bench.world_named(&bench.postgres, &name, &streams(200, |_| "main".into())).await;
    fill(&one.source, 200).await;
    let writes = [("followed", numbered(0)), ("not followed", "others".to_owned())];
    let mut costs = [[vec![], vec![]], [vec![], vec![]]];
    for round in 0..rounds.max(3) {
        for turn in [round % 2, 1 - round % 2] {
            let world = [&one, &many][turn];
            let daemon = world.start().await;
            daemon.until_all("streaming").await;
            for (place, (_, collection)) in writes.iter().enumerate() {
                costs[place][turn].push(server_micros(bench, world, collection).await);
            }
            daemon.stop();
        }
    }
    let bar = |(place, (name, _)): (usize, &(&str, String))| {
        let (of_one, of_many) = (median(&costs[place][0]), median(&costs[place][1]));
        Bar::new(
            format!("12 the server's CPU a write, 200 ÷ 1, {name}"),
            of_many / of_one,
            Limit::AtMost(1.2),
            "",
        )
        .with(format!("{of_many:.0} and {of_one:.0} µs a write"))
    };
    writes.iter().enumerate().map(bar).collect()
}

/// What a daemon that follows a thousand collections takes while nothing changes.
async fn at_rest(bench: &Bench, world: &World, daemon: &Running) -> Vec<Bar> {
    // What the walks left behind is written down.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let (cpu, wal) = (daemon.cpu_seconds(), world.wal_bytes().await);
    tokio::time::sleep(REST).await;
    let cpu = (daemon.cpu_seconds() - cpu) / REST.as_secs_f64();
    let wal = (world.wal_bytes().await - wal) / REST.as_secs_f64() * 3_600.0;
    let most = |name: &str, figure, limit, unit| {
        Bar::new(
            format!("10 1,000 collections at rest, {name}"),
            figure,
            Limit::AtMost(limit),
            unit,
        )
    };
    vec![
        most("memory", daemon.megabytes("VmRSS"), 96.0, "MiB"),
        most("of a core", cpu * 100.0, 2.0, "%"),
        most("Postgres connections", world.sessions().await, 6.0, ""),
        most("MongoDB connections", connections(bench).await, 8.0, ""),
        most("log volume an hour", wal / f64::from(1 << 20), 5.0, "MiB"),
    ]
}

/// Connections of the daemon to the server.
async fn connections(bench: &Bench) -> f64 {
    let admin = bench.mongo.client().await.unwrap().database("admin");
    let operations = doc! { "$currentOp": { "allUsers": true, "idleConnections": true } };
    let ours = doc! { "$match": { "appName": "tidemark" } };
    let count = doc! { "$group": { "_id": "$connectionId" } };
    let mut found = admin.aggregate([operations, ours, count]).await.unwrap();
    let mut number = 0;
    while found.advance().await.unwrap() {
        number += 1;
    }
    f64::from(number)
}

fn busy_bar(name: &str, (latencies, rate): &(Latencies, f64)) -> Bar {
    let at = |share| quantile(&latencies.after_acknowledged, share);
    Bar::new(format!("{name}, visible beside a busy one, p99"), at(0.99), Limit::AtMost(40.0), "ms")
        .with(format!("p50 {:.1} ms, {rate:.0} changes/s", at(0.50)))
}

/// How soon the writes of quiet collections are visible while another one takes changes; and how
/// many a second these were.
async fn beside_busy(world: &World, watched: &mut Watched) -> (Latencies, f64) {
    let stop = Arc::new(AtomicBool::new(false));
    let busy = tokio::spawn(be_busy(world.source.clone(), Arc::clone(&stop)));
    let begun = Instant::now();
    let latencies = watched.write(WRITES, PAUSE).await;
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    (latencies, f64::from(busy.await.unwrap()) / seconds)
}

/// Changes the first collection, half inserts and half updates, [`BUSY`] a second, until told to
/// stop.
async fn be_busy(source: Database, stop: Arc<AtomicBool>) -> u32 {
    const TICKS: u32 = 50;
    let name = numbered(0);
    let collection = source.collection::<Document>(&name);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / TICKS);
    let (half, mut done) = (BUSY / TICKS / 2, 0);
    while !stop.load(Ordering::Relaxed) {
        tick.tick().await;
        let ids = done / 2..done / 2 + half;
        let document = |n| doc! { "_id": format!("busy{n}"), "doctorLastName": "Smith", "n": n };
        collection.insert_many(ids.clone().map(document)).await.unwrap();
        let update = |n| {
            let set = doc! { "$set": { "doctorLastName": "Jones" } };
            doc! { "q": { "_id": format!("busy{n}") }, "u": set }
        };
        let updates: Vec<Document> = ids.map(update).collect();
        source.run_command(doc! { "update": &name, "updates": updates }).await.unwrap();
        done += 2 * half;
    }
    done
}

/// Microseconds of the server's CPU a write: inserts one at a time, four writers.
async fn server_micros(bench: &Bench, world: &World, collection: &str) -> f64 {
    const WRITERS: usize = 4;
    const EACH: usize = 2_000;
    let before = mongod_seconds(bench);
    let writers = (0..WRITERS).map(async |_| {
        let collection = world.source.collection::<Document>(collection);
        for n in 0..EACH {
            collection
                .insert_one(
                    doc! { "doctorLastName": "Smith", "n": i64::try_from(n).unwrap_or_default() },
                )
                .await
                .unwrap();
        }
    });
    join_all(writers).await;
    // What was written last is delivered, too.
    tokio::time::sleep(Duration::from_millis(300)).await;
    (mongod_seconds(bench) - before) / (WRITERS * EACH) as f64 * 1e6
}

fn mongod_seconds(bench: &Bench) -> f64 {
    bench.mongo.pids().into_iter().map(crate::daemon::cpu_seconds).sum()
}

fn streams(number: usize, group: impl Fn(usize) -> String) -> String {
    let column = "column = [{ name = \"last_name\", field = \"doctorLastName\", type = \"text\" }]";
    let stream = |n| {
        let (name, group) = (numbered(n), group(n));
        format!(
            "[[stream]]\nname = {name:?}\ncollection = {name:?}\ntable = {name:?}\ngroup = \
             {group:?}\n{column}\n"
        )
    };
    (0..number).map(stream).collect()
}

async fn fill(source: &Database, number: usize) {
    let filling = (0..number).map(async |n| load::twenty(source, &numbered(n)).await);
    // The driver's pool sets the pace.
    join_all(filling).await;
}

async fn watch(world: &World, number: usize) -> Watched {
    let names: Vec<String> = (0..number).map(numbered).collect();
    let tables: Vec<String> = names.iter().map(|name| format!("public.{name}")).collect();
    // The first is the busy one.
    Watched::new(&world.source, &names[1..], &world.target_url, &tables[1..]).await
}
