//! From the first instant to the last: names that cannot be resolved, signals, and an end in time
//! whatever hangs.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use devstack::revalidation::{DOCTORS, Revalidation};
use devstack::{Behaviour, Fakes, Mode, Proxy, Stack};

use crate::alerting::{until, until_incident};
use crate::support::{Config, World, run};

const IN_TIME: Duration = Duration::from_secs(10);

/// Whether the process has a handler of its own for a signal.
fn catches(child: &Child, signal: u32) -> bool {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).unwrap_or_default() >> (signal - 1) & 1 == 1
}

fn ended(child: &mut Child, within: Duration) -> Option<i32> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < deadline, "still running after {within:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_signal_counts_before_the_configuration_is_read() {
    let world = World::new().await;
    // Whoever reads this secret waits: the earliest that anything can be slow.
    let pipe = world.config.with_file_name("secret");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = world.command(&["run"]);
    command
        .env("TIDEMARK__ALERT__SENTRY__DSN_FILE", &pipe)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ![15, 2, 1].into_iter().all(|signal| catches(&child, signal)) {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("SIGTERM, SIGINT and SIGHUP are not all listened to");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    devstack::signal(child.id(), "TERM").unwrap();
    // Whoever is not listened to waits for the secret for ever.
    assert_eq!(ended(&mut child, Duration::from_secs(60)), Some(0));
}

#[tokio::test]
async fn a_hang_up_ends_nothing() {
    let world = World::new().await;
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    daemon.signal("HUP");
    until("the signal is told", &world, || daemon.log().contains("SIGHUP")).await;
    let mut data = Revalidation::new(world.source.clone(), 71);
    data.load(50, 20).await.unwrap();
    world.until_equal(DOCTORS, "public.doctor").await;
    assert!(daemon.is_running());
    assert_eq!(daemon.stop().0, Some(0));
}

#[tokio::test]
async fn names_that_cannot_be_resolved_are_told_and_waited_for() {
    let quick = "retry.escalate_after = \"1s\"\n";
    let database = Stack::shared().postgres.database().await.unwrap();
    let config = || Config { extra: quick.to_owned(), ..Config::default() };
    let target = Stack::shared().postgres.url(&database);
    let world = World::of(&Stack::shared().mongo.uri(), &target, config()).await;
    let (srv, nowhere) =
        ("mongodb+srv://cluster.tidemark.invalid/", "postgres://t@db.tidemark.invalid/d");
    let cases = [
        ("source_unreachable", "SOURCE__URI", srv),
        ("target_unreachable", "TARGET__URL", nowhere),
    ];
    for (code, key, value) in cases {
        let mut daemon = world.start_with(&[(&format!("TIDEMARK__{key}"), value)]);
        assert_eq!(daemon.get("/livez").await.0, 200, "{code}");
        assert_eq!(daemon.get("/readyz").await.0, 503, "{code}");
        until_incident(&daemon, code, |incidents| {
            incidents.iter().any(|incident| incident["code"] == code)
        })
        .await;
        assert!(daemon.is_running(), "{code}: {}", daemon.log());
        let (ended, took) = daemon.stop();
        assert_eq!(ended, Some(0), "{code}: {}", daemon.log());
        assert!(took < IN_TIME, "{code}: {took:?}");
    }
    // What is plainly wrong is no outage.
    let mut wrong = world.command(&["run"]);
    wrong.env("TIDEMARK__SOURCE__URI", "mongodb+srv://cluster.tidemark.invalid:27017/");
    assert_eq!(wrong.stderr(Stdio::null()).status().unwrap().code(), Some(78));
}

/// Both ends behind black holes or one, pages left open, a channel that never answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_ends_in_time_whatever_hangs() {
    let stack = Stack::shared();
    let fakes = Fakes::start().unwrap();
    fakes.slack(Behaviour::TakesAndHangs);
    fakes.sentry(Behaviour::Hangs);
    for (source_hangs, target_hangs) in [(true, false), (false, true), (true, true)] {
        let (to_mongo, to_postgres) =
            (Proxy::to(stack.mongo.port()), Proxy::to(stack.postgres.port()));
        let (to_mongo, to_postgres) = (to_mongo.unwrap(), to_postgres.unwrap());
        let database = stack.postgres.database().await.unwrap();
        let uri = format!("mongodb://127.0.0.1:{}/?directConnection=true", to_mongo.port());
        let url = format!("postgres://tidemark@127.0.0.1:{}/{database}", to_postgres.port());
        let extra =
            format!("{}retry.escalate_after = \"1s\"\nlease.duration = \"15s\"\n", fakes.config());
        let world = World::of(&uri, &url, Config { extra, ..Config::default() }).await;
        let direct = stack.mongo.client().await.unwrap().database(&world.name);
        let mut data = Revalidation::new(direct, 72);
        data.load(300, 100).await.unwrap();
        let mut daemon = world.start();
        daemon.until_phase("doctor", "streaming").await;
        daemon.until_phase("recommendation", "streaming").await;
        let client = tidemark::http_client::builder().build().unwrap();
        let mut viewers = Vec::new();
        for _ in 0..8 {
            viewers.push(
                client.get(format!("http://{}/events", daemon.address)).send().await.unwrap(),
            );
        }
        if source_hangs {
            to_mongo.set(Mode::Stall);
        }
        if target_hangs {
            to_postgres.set(Mode::Stall);
        }
        data.work(300).await.unwrap();
        let (code, took) = daemon.stop();
        let case = format!("source {source_hangs}, target {target_hangs}");
        assert_eq!(code, Some(0), "{case}: {}", daemon.log());
        assert!(took < IN_TIME, "{case}: {took:?}");
        if !target_hangs {
            let free = "select bool_and(expires_at < now()) from tidemark.lease";
            assert!(world.scalar::<bool>(free).await, "{case}: the leases were given back");
        }
        drop(viewers);
    }
}

#[tokio::test]
async fn a_healthy_container_stays_so_while_its_configuration_is_edited() {
    let port = devstack::free_port().unwrap();
    let extra = format!("status.listen = \"127.0.0.1:{port}\"\n");
    let world = World::with(Config { extra, ..Config::default() }).await;
    let _daemon = world.start();
    let text = std::fs::read_to_string(&world.config).unwrap();
    let (bad_line, bad_key) = ("retry.delay_max = = \"1s\"\n", "retry.delay_maximum = \"1s\"\n");
    let no_secret = "alert.sentry.dsn_file = \"/nowhere/dsn\"\n";
    for edit in [bad_line, bad_key, no_secret] {
        std::fs::write(&world.config, format!("{edit}{text}")).unwrap();
        let (code, told) = run(&world, &["healthcheck"]);
        assert_eq!(code, Some(0), "{edit}: {told}");
        assert_eq!(run(&world, &["check", "--offline"]).0, Some(78), "{edit}");
    }
}
