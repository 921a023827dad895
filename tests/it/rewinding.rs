//! Guarantees 1, 4, 13: the target goes back while tidemark runs, and nothing is lost.

use devstack::revalidation::{DOCTORS, RECOMMENDATIONS, Revalidation};
use devstack::{Failover, Postgres, PostgresOptions, Stack};
use sqlx::{AssertSqlSafe, Connection};

use crate::support::{Config, World};

/// The tool itself: what a promoted standby had not heard of is gone, the rest is there.
#[tokio::test]
async fn a_promoted_standby_has_what_it_heard_of_and_nothing_else() {
    let mut failover = Failover::start(&PostgresOptions::default()).unwrap();
    let url = failover.url("postgres");
    let run = async |sql: &'static str| {
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    };
    run("create table seen (round int)").await;
    for round in 0..2 {
        run("insert into seen select coalesce(max(round), 0) + 1 from seen").await;
        failover.caught_up().await.unwrap();
        failover.cut_off().await.unwrap();
        run("insert into seen select -1").await;
        failover.promote().await.unwrap();
        let mut connection = sqlx::PgConnection::connect(&url).await.unwrap();
        let rounds = sqlx::query_scalar("select round from seen order by 1");
        let rounds: Vec<i32> = rounds.fetch_all(&mut connection).await.unwrap();
        assert_eq!(rounds, (1..=round + 1).collect::<Vec<_>>());
        failover.renew().unwrap();
    }
}

/// The tool itself: a crash takes what was committed without waiting for the disk.
#[tokio::test]
async fn a_crash_loses_what_was_not_flushed() {
    let settings = vec!["wal_writer_delay=10s".to_owned()];
    let mut postgres =
        Postgres::start(&PostgresOptions { settings, ..PostgresOptions::default() }).unwrap();
    let run = async |postgres: &Postgres, sql: &'static str| {
        let mut connection = postgres.connect("postgres").await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    };
    run(&postgres, "create table seen (flushed bool)").await;
    run(&postgres, "insert into seen values (true)").await;
    let mut seen: Vec<bool> = Vec::new();
    // On a slow machine the crash may come after the time at which it is flushed.
    for _ in 0..4 {
        run(&postgres, "delete from seen where not flushed").await;
        run(&postgres, "set synchronous_commit = off; insert into seen values (false)").await;
        postgres.crash().unwrap();
        let mut connection = postgres.connect("postgres").await.unwrap();
        let rows = sqlx::query_scalar("select flushed from seen");
        seen = rows.fetch_all(&mut connection).await.unwrap();
        if seen == [true] {
            break;
        }
    }
    assert_eq!(seen, [true]);
}

#[tokio::test]
async fn a_lagging_standby_promoted_under_load_loses_no_row() {
    let mut failover = Failover::start(&PostgresOptions::default()).unwrap();
    let database = failover.primary().database().await.unwrap();
    let uri = Stack::shared().mongo.uri();
    let world = World::of(&uri, &failover.url(&database), Config::default()).await;
    let mut data = Revalidation::new(world.source.clone(), 131);
    data.load(2_000, 1_000).await.unwrap();
    let daemon = world.start();
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    for _ in 0..3 {
        failover.caught_up().await.unwrap();
        failover.cut_off().await.unwrap();
        // Acknowledged by a primary whose standby hears nothing of it.
        data.work(400).await.unwrap();
        world.until_equal(DOCTORS, "public.doctor").await;
        world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
        let working = tokio::spawn(async move {
            data.work(2_000).await.unwrap();
            data
        });
        failover.promote().await.unwrap();
        data = working.await.unwrap();
        failover.renew().unwrap();
    }
    world.until_equal(DOCTORS, "public.doctor").await;
    world.until_equal(RECOMMENDATIONS, "public.recommendation").await;
    daemon.until_phase("doctor", "streaming").await;
}
