//! The bars: every figure beside its limit, measured in one run on one machine, as a table and as
//! JSON.
//!
//! `cargo bench` runs all; `cargo bench -- --events 60000 --rounds 1` a shorter one; `--json FILE`
//! keeps the figures. Absolute figures do not travel; the ratios do. See docs/performance.md.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "a bench: an error ends it, its output is its purpose"
)]

#[path = "bars/alerts.rs"]
mod alerts;
#[path = "bars/daemon.rs"]
mod daemon;
#[path = "bars/groups.rs"]
mod groups;
#[path = "bars/load.rs"]
mod load;
#[path = "bars/rest.rs"]
mod rest;
#[path = "bars/resync.rs"]
mod resync;
#[path = "bars/rivals.rs"]
mod rivals;
#[path = "bars/script.rs"]
mod script;
#[path = "bars/table.rs"]
mod table;
#[path = "bars/visible.rs"]
mod visible;

use std::time::{Duration, Instant};

use daemon::Bench;
use devstack::{Mongo, MongoOptions, Postgres, PostgresOptions};
use load::Shape;
use table::{Bar, Limit, median};

/// What is asked of a run.
struct Plan {
    events: usize,
    rounds: usize,
    json: Option<String>,
    only: Option<String>,
}

impl Plan {
    fn parse() -> Self {
        let number =
            |name: &str, default| option(name).map_or(default, |text| text.parse().unwrap());
        Self {
            events: number("--events", 240_000),
            rounds: number("--rounds", 3),
            json: option("--json"),
            only: option("--only"),
        }
    }

    fn wants(&self, bar: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.split(',').any(|part| part == bar))
    }
}

/// What stands after an option.
fn option(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// The binary that is measured: this build's, or another one to compare it with.
fn binary() -> String {
    option("--binary").unwrap_or_else(|| env!("CARGO_BIN_EXE_tidemark").to_owned())
}

#[tokio::main]
async fn main() {
    let plan = Plan::parse();
    let mongo = Mongo::start(&MongoOptions {
        oplog_megabytes: 4_000,
        cache_gigabytes: 2.0,
        ..MongoOptions::default()
    })
    .unwrap();
    let postgres = Postgres::start(&PostgresOptions::durable()).unwrap();
    let bench = Bench { mongo, postgres };
    let mut bars = Vec::new();
    if plan.wants("drain") {
        bars.extend(drain(&bench, &plan, Shape::Big).await);
        bars.extend(drain(&bench, &plan, Shape::Small).await);
    }
    if plan.wants("snapshot") {
        bars.push(snapshot(&bench, &plan).await);
    }
    if plan.wants("resync") {
        bars.extend(resync::bars(&bench, plan.events / 2, plan.rounds).await);
    }
    if plan.wants("rewrite") {
        bars.extend(rewrite(&bench, &plan).await);
    }
    if plan.wants("latency") {
        bars.extend(rest::bars(&bench, plan.rounds).await);
        bars.push(groups::two(&bench).await);
    }
    if plan.wants("growth") {
        bars.push(growth(&bench, 300_000, plan.rounds).await);
    }
    if plan.wants("alerts") {
        bars.push(alerts::bar(&bench, plan.events, plan.rounds).await);
    }
    if plan.wants("thousand") {
        bars.extend(groups::thousand(&bench).await);
    }
    if plan.wants("fifty") {
        bars.extend(groups::fifty(&bench, plan.rounds).await);
    }
    if plan.wants("server") {
        bars.extend(groups::server(&bench, plan.rounds).await);
    }
    table::print(&bars);
    if let Some(file) = plan.json {
        std::fs::write(file, table::json(&bars)).unwrap();
    }
    assert!(bars.iter().all(Bar::holds), "a bar is not met");
}

/// Bars 1, 2 and 3: a backlog drained, against the same read bare and against a row at a time.
async fn drain(bench: &Bench, plan: &Plan, shape: Shape) -> Vec<Bar> {
    let name = shape.name();
    let world = bench.world(&format!("drain_{name}")).await;
    let token = world.first_position().await;
    load::backlog(&world.source, shape, plan.events).await;
    let (mut read, mut drained, mut cpu, mut memory, mut ratios) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..plan.rounds {
        let bare = rivals::bare_read(&world.source, &token, plan.events).await;
        world.rewind().await;
        let run = world.drain(plan.events as u64).await;
        world.assert_equal().await;
        read.push(bare);
        drained.push(run.events_per_second);
        ratios.push(run.events_per_second / bare);
        cpu.push(run.cpu_micros);
        memory.push(run.peak_megabytes);
    }
    let slow = rivals::row_at_a_time(&world, &token, (plan.events / 12).min(20_000)).await;
    let limit = if name == "big" { 0.70 } else { 0.60 };
    vec![
        Bar::new(
            format!("1 drain ÷ bare read, {name}"),
            median(&ratios),
            Limit::AtLeast(limit),
            "",
        )
        .with(format!("{:.0} of {:.0} events/s", median(&drained), median(&read))),
        Bar::new(
            format!("2 drain ÷ a row at a time, {name}"),
            median(&drained) / slow,
            Limit::AtLeast(10.0),
            "",
        )
        .with(format!("{slow:.0} events/s a row at a time")),
        Bar::new(format!("3 own CPU an event, {name}"), median(&cpu), Limit::AtMost(8.0), "µs"),
        Bar::new(format!("3 peak memory, {name}"), median(&memory), Limit::AtMost(64.0), "MiB"),
    ]
}

/// Bar 4: the first snapshot against a bare binary COPY of the same rows.
async fn snapshot(bench: &Bench, plan: &Plan) -> Bar {
    let world = bench.world("snapshot").await;
    load::collection(&world.source, plan.events).await;
    let (mut ratios, mut rates) = (vec![], vec![]);
    for round in 0..plan.rounds {
        // By turns, the one after the other at once: neither always has the quieter machine.
        let copy_first = if round % 2 == 1 { Some(rivals::bare_copy(&world).await) } else { None };
        world.forget().await;
        let seconds = world.snapshot().await;
        let copy = match copy_first {
            Some(copy) => copy,
            None => rivals::bare_copy(&world).await,
        };
        world.assert_equal().await;
        rates.push(plan.events as f64 / seconds);
        ratios.push(copy / seconds);
    }
    Bar::new(
        "4 first snapshot ÷ bare COPY, one connection",
        median(&ratios),
        Limit::AtLeast(0.90),
        "",
    )
    .with(format!("{:.0} documents/s", median(&rates)))
}

/// Bar 6: a nightly rewrite of documents most of which do not change.
async fn rewrite(bench: &Bench, plan: &Plan) -> Vec<Bar> {
    let documents = (plan.events / 6).max(10_000);
    let mut rates = [vec![], vec![]];
    let mut written = 0.0;
    for round in 0..plan.rounds {
        for (place, changed_share) in [(0, 0.05), (1, 1.0)] {
            let world = bench.world(&format!("rewrite_{round}_{place}")).await;
            load::collection(&world.source, documents).await;
            world.snapshot().await;
            load::rewrite(&world.source, documents, changed_share).await;
            let before = world.row_versions().await;
            let run = world.drain(documents as u64).await;
            world.assert_equal().await;
            rates[place].push(run.events_per_second);
            if place == 0 {
                written = (world.row_versions().await - before) / (documents as f64 * 0.05);
            }
        }
    }
    vec![
        Bar::new("6 row versions written ÷ documents changed", written, Limit::AtMost(1.02), ""),
        Bar::new(
            "6 rewrite, 5 % changed ÷ all changed",
            median(&rates[0]) / median(&rates[1]),
            Limit::AtLeast(1.0),
            "",
        )
        .with(format!("{:.0} and {:.0} events/s", median(&rates[0]), median(&rates[1]))),
    ]
}

/// Bar 8: the last tenth of a long drain costs what the first did.
async fn growth(bench: &Bench, events: usize, rounds: usize) -> Bar {
    let world = bench.world("growth").await;
    world.first_position().await;
    load::backlog(&world.source, Shape::Big, events).await;
    let mut ratios = vec![];
    for _ in 0..rounds {
        world.rewind().await;
        let run = world.drain(events as u64).await;
        ratios.push(run.last_tenth / run.first_tenth);
    }
    world.assert_equal().await;
    Bar::new("8 seconds of the last tenth ÷ the first", median(&ratios), Limit::AtMost(1.10), "")
        .with(format!("{events} events"))
}

/// Waits for something, looking often.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}
