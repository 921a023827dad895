//! The log is filtered otherwise for a while, in every process, and then as configured again.

use std::time::{Duration, Instant};

use crate::support::{Config, Daemon, World, eventually, run, stream};

/// Whether a line at WARN is written for something that calls for one.
async fn warns(daemon: &Daemon) -> bool {
    let lines = || daemon.log().matches("nothing is changed").count();
    let before = lines();
    daemon.signal("HUP");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    lines() > before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_process_logs_less_for_a_while_one_that_starts_meanwhile_too() {
    let streams = stream("doctor", "doctor", "");
    let world = World::with(Config { streams, ..Config::default() }).await;
    let (mut one, two) = (world.start(), world.start());
    for daemon in [&one, &two] {
        daemon.until_readiness(200).await;
        eventually("it logs as configured", async || warns(daemon).await).await;
    }
    let level = ["log", "level", "error", "--for", "40s", "--reason", "too many lines"];
    let (code, told) = run(&world, &level);
    assert!(code == Some(0) && told.contains("each process of") && told.contains("here info"));
    let asked = "select count(*) from tidemark.command";
    assert_eq!(world.scalar::<i64>(asked).await, 0, "a preview asks for nothing");

    let begun = Instant::now();
    let (code, told) = run(&world, &[&level[..], &["--execute"]].concat());
    assert!(code == Some(0) && told.contains("error until "), "{told}");
    for daemon in [&one, &two] {
        eventually("it logs less", async || !warns(daemon).await).await;
        let said = async || daemon.log().contains("the log is filtered otherwise until");
        eventually("it is said", said).await;
    }
    assert_eq!(told.matches(": error until ").count(), 2, "both have answered: {told}");
    one.stop();
    let one = world.start();
    // Unless the while was over before that was seen.
    let is_over = || begun.elapsed() >= Duration::from_secs(40);
    let logs_less = async || !warns(&one).await || is_over();
    eventually("a new one logs less, too", logs_less).await;
    assert!(!warns(&two).await || is_over(), "it still does");

    for daemon in [&one, &two] {
        eventually("it logs as configured again", async || warns(daemon).await).await;
        assert!(daemon.log().contains("filtered as configured again"), "{}", daemon.log());
    }
}

#[tokio::test]
async fn a_filter_or_a_length_by_a_slip_is_refused() {
    let world = World::new().await;
    for (filter, length, what) in [
        ("inof", "1h", "is not a filter"),
        ("tidemark", "1h", "is not a filter"),
        ("info,x=[", "1h", "is not a filter"),
        ("debug", "2days", "a day at most"),
        ("debug", "0s", "a day at most"),
        ("debug", "soon", "must be a duration"),
    ] {
        let (code, told) = run(&world, &["log", "level", filter, "--for", length]);
        assert!(code == Some(2) && told.contains(what), "{filter} {length}: {code:?} {told}");
    }
}
