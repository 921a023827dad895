//! The target fails over: another host takes writes from one moment to the next, and no person is
//! wanted.

use std::time::Duration;

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use devstack::{Failover, Postgres, PostgresOptions, Proxy, Stack};
use serde_json::Value;
use sqlx::PgConnection;

use crate::support::{Config, Daemon, Stopwatch, World, run, status_of_the_well, text};

/// As long as by default.
const DEFAULTS: &str =
    "lease.duration = \"15s\"\nretry.delay_max = \"60s\"\ncheckpoint.idle_interval = \"10s\"\n";

fn hosts(ports: [u16; 2], database: &str) -> String {
    format!("postgres://tidemark@127.0.0.1:{},127.0.0.1:{}/{database}", ports[0], ports[1])
}

async fn commits(connection: &mut PgConnection) -> i64 {
    let made = "select coalesce(sum(revision), 0)::bigint from tidemark.checkpoint";
    sqlx::query_scalar(made).fetch_one(connection).await.unwrap()
}

/// No verdict but healthy is to be given to who is told at the same time that all is ready, nor the
/// other way round.
async fn agree(daemon: &Daemon) -> Value {
    let (ready, _) = daemon.get("/readyz").await;
    let status = daemon.status().await;
    let (after, reasons) = daemon.get("/readyz").await;
    if ready == 503 && after == 503 {
        assert_ne!(status["verdict"], "healthy", "not ready: {reasons}\n{status:#}");
    }
    status
}

/// With a synchronous standby nothing that was acknowledged is lost: no commit goes back, no
/// incident is opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_promoted_under_load_is_followed_within_seconds_five_times_over() {
    let mut failover = Failover::start(&PostgresOptions::default()).unwrap();
    let database = failover.primary().database().await.unwrap();
    // Two hosts, each with one server after the other behind it.
    let doors = [failover.primary().port(), failover.standby_port().unwrap()]
        .map(|port| Proxy::to(port).unwrap());
    let url = hosts([doors[0].port(), doors[1].port()], &database);
    let config = Config { extra: DEFAULTS.to_owned(), ..Config::default() };
    let mut world = World::of(&Stack::shared().mongo.uri(), &url, config).await;
    let mut data = Revalidation::new(world.source.clone(), 171);
    data.load(2_000, 1_000).await.unwrap();
    let daemon = world.start();
    for name in ["doctor", "recommendation"] {
        daemon.until_phase(name, "streaming").await;
    }
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let working = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            data.work(50).await.unwrap();
        }
    });
    let mut took = Vec::new();
    for round in 0..5 {
        failover.synchronous().await.unwrap();
        failover.take_over().await.unwrap();
        let promoted = Stopwatch::start();
        let mut primary = failover.primary().connect(&database).await.unwrap();
        let before = commits(&mut primary).await;
        while commits(&mut primary).await == before {
            assert!(
                promoted.elapsed() < Duration::from_secs(60),
                "round {round}: nothing committed\n{}",
                daemon.log()
            );
            agree(&daemon).await;
        }
        took.push(promoted.elapsed());
        for name in ["doctor", "recommendation"] {
            let calm =
                |s: &Value| s["phase"] == "streaming" && s["retrying"] == 0 && s["leader"] == true;
            daemon.until(name, "calm again", calm).await;
        }
        failover.renew().unwrap();
        doors[round % 2].retarget(failover.standby_port().unwrap());
    }
    println!("from promotion to the first commit: {took:?}");
    // A machine that has other work may be slow once or twice.
    took.sort_unstable();
    assert!(took[2] < Duration::from_secs(5), "{took:?}");
    stop.send(()).unwrap();
    working.await.unwrap();
    world.target_url = failover.primary().url(&database);
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    assert_eq!(world.column("select code from tidemark.incident").await, Vec::<String>::new());
    assert!(!daemon.phases("doctor").contains(&"halted".to_owned()));
}

/// A standby answers, and is not the target, whichever place it has in the URL.
#[tokio::test]
async fn a_host_that_takes_no_writes_is_passed_over() {
    let mut failover = Failover::start(&PostgresOptions::default()).unwrap();
    let database = failover.primary().database().await.unwrap();
    failover.caught_up().await.unwrap();
    let url = hosts([failover.standby_port().unwrap(), failover.primary().port()], &database);
    let mut world = World::of(&Stack::shared().mongo.uri(), &url, Config::default()).await;
    world.target_url = failover.primary().url(&database);
    Revalidation::new(world.source.clone(), 172).load(200, 50).await.unwrap();
    let _daemon = world.start();
    world.until_equal(DOCTORS, "public.doctor").await;
}

/// Between a primary's death and a promotion a person sees what was last known, and no more is
/// done.
#[tokio::test]
async fn what_a_standby_has_is_told_while_no_host_takes_writes() {
    const SENTENCE: &str = "no host of target.url takes writes: this is what a standby has";
    let mut failover = Failover::start(&PostgresOptions::default()).unwrap();
    let database = failover.primary().database().await.unwrap();
    let url = hosts([failover.primary().port(), failover.standby_port().unwrap()], &database);
    let mut world = World::of(&Stack::shared().mongo.uri(), &url, Config::default()).await;
    world.target_url = failover.primary().url(&database);
    Revalidation::new(world.source.clone(), 174).load(200, 50).await.unwrap();
    let mut daemon = world.start();
    daemon.until_phase("doctor", "streaming").await;
    world.until_equal(DOCTORS, "public.doctor").await;
    let told = status_of_the_well(&world).await;
    assert!(!told.contains(SENTENCE), "{told}");
    daemon.stop();
    failover.caught_up().await.unwrap();
    failover.primary().kill().unwrap();
    let output = world.command(&["status", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains(SENTENCE), "{}", text(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["streams"][0]["position"]["cluster_time"].is_string(), "{report:#}");
    let (code, told) = run(&world, &["resync", "doctor", "--reason", "test", "--execute"]);
    assert!(code == Some(69) && told.contains("no host takes writes"), "{told}");
}

/// A server that is set to read only refuses what is under way, and takes it later.
#[tokio::test]
async fn a_server_that_refuses_writes_for_a_while_is_waited_for_and_no_session_of_that_time_stays()
{
    let postgres = Postgres::start(&PostgresOptions::default()).unwrap();
    let database = postgres.database().await.unwrap();
    let config = Config { extra: "retry.delay_max = \"60s\"\n".to_owned(), ..Config::default() };
    let world = World::of(&Stack::shared().mongo.uri(), &postgres.url(&database), config).await;
    let mut data = Revalidation::new(world.source.clone(), 173);
    data.load(500, 100).await.unwrap();
    let daemon = world.start();
    for name in ["doctor", "recommendation"] {
        daemon.until_phase(name, "streaming").await;
    }
    let set = async |read_only: &str| {
        world
            .execute(&format!("alter system set default_transaction_read_only = {read_only}"))
            .await;
        world.execute("select pg_reload_conf()").await;
    };
    set("on").await;
    data.work(200).await.unwrap();
    let tried = |s: &Value| s["failing"].as_array().unwrap().iter().any(|f| f["step"] == "apply");
    let failing = daemon
        .until("doctor", "keeps trying", |s| tried(s) && s["retrying"].as_u64() > Some(3))
        .await;
    assert_eq!(failing["halt_code"], Value::Null, "{failing:#}");
    daemon.until_readiness(503).await;
    assert_eq!(agree(&daemon).await["verdict"], "degraded");
    world
        .until(
            "no session is left",
            &format!(
                "select count(*) = 0 from pg_stat_activity where \
                 application_name = 'tidemark' and state_change < \
                 now() - interval '5 seconds' and datname = \
                 '{database}'"
            ),
        )
        .await;
    set("off").await;
    let begun = Stopwatch::start();
    for name in ["doctor", "recommendation"] {
        daemon.until(name, "calm again", |s| s["retrying"] == 0).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    daemon.until_readiness(200).await;
    world.until_equal(DOCTORS, "public.doctor").await;
    assert_eq!(world.column("select code from tidemark.incident").await, Vec::<String>::new());
}
