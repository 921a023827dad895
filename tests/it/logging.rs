//! The log never holds up the work: nobody reads it, or nobody is there to.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use devstack::revalidation::{DOCTORS, Revalidation};

use crate::support::{Config, Daemon, World};

/// A daemon that writes long lines, to a pipe of the test's.
async fn start() -> (World, Daemon) {
    let address = format!("127.0.0.1:{}", devstack::free_port().unwrap());
    // Every line carries it.
    let long = "x".repeat(2000);
    let extra =
        format!("environment = {long:?}\nstatus.listen = {address:?}\nlease.duration = \"30s\"\n");
    let world = World::with(Config { extra, ..Config::default() }).await;
    let child =
        world.command(&["run"]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let daemon = Daemon::of(child, &address);
    (world, daemon)
}

/// A line for each signal that the daemon notices.
fn fill(daemon: &Daemon) {
    for _ in 0..20 {
        daemon.signal("HUP");
    }
}

fn stderr(child: &mut Child) -> impl BufRead + use<> {
    BufReader::new(child.stderr.take().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_up_nothing_and_says_later_what_was_dropped() {
    let (world, mut daemon) = start().await;
    let mut data = Revalidation::new(world.source.clone(), 61);
    data.load(200, 50).await.unwrap();
    daemon.until_phase("doctor", "streaming").await;
    let epoch = daemon.stream("doctor").await["epoch"].clone();
    daemon
        .until_metric("lines are dropped", async || {
            fill(&daemon);
            daemon.metric("tidemark_log_lines_dropped_total").await > 0.0
        })
        .await;
    // Longer than the lease, which somebody would have to have renewed.
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(32) {
        data.work(20).await.unwrap();
    }
    world.until_equal(DOCTORS, "public.doctor").await;
    let stream = daemon.until_phase("doctor", "streaming").await;
    assert_eq!(stream["epoch"], epoch, "the lease was kept");
    assert_eq!(daemon.get("/livez").await.0, 200);

    let log = stderr(&mut daemon.child);
    let told = tokio::task::spawn_blocking(move || {
        let mut lines = log.lines().map_while(Result::ok);
        let told = lines.find(|line| line.contains("lines of the log were dropped"));
        // Whoever reads goes on reading.
        std::thread::spawn(move || lines.for_each(drop));
        told
    });
    let told = tokio::time::timeout(Duration::from_secs(60), told).await.unwrap().unwrap().unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told["lines"].as_u64() > Some(0) && told["level"] == "WARN", "{told}");
    assert_eq!(daemon.stop().0, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pipe_does_not_keep_the_process_from_ending() {
    let (_world, mut daemon) = start().await;
    daemon.until_phase("doctor", "streaming").await;
    daemon
        .until_metric("lines are dropped", async || {
            fill(&daemon);
            daemon.metric("tidemark_log_lines_dropped_total").await > 0.0
        })
        .await;
    let (code, took) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_went_away_is_not_missed() {
    let (world, mut daemon) = start().await;
    daemon.until_phase("doctor", "streaming").await;
    drop(daemon.child.stderr.take());
    let mut data = Revalidation::new(world.source.clone(), 63);
    data.load(200, 50).await.unwrap();
    data.work(200).await.unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    daemon
        .until_metric("lines are counted", async || {
            fill(&daemon);
            daemon.metric("tidemark_log_lines_dropped_total").await > 0.0
        })
        .await;
    assert_eq!(daemon.stop().0, Some(0));
}
