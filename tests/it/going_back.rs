//! Guarantee 13: the target may go back; what the database says it has is what counts, memory never
//! overtakes it.

use devstack::{Mode, Postgres, PostgresOptions, Proxy, Stack};
use mongodb::bson::{Document, doc};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Config, World, run, stream};

fn documents(numbers: std::ops::Range<i32>) -> Vec<Document> {
    numbers.map(|n| doc! { "_id": format!("{n:06}"), "n": n, "text": "x".repeat(50) }).collect()
}

/// The tables that a commit of the stream touches.
const TABLES: [&str; 4] =
    ["public.odd", "tidemark.checkpoint", "tidemark.resync", "tidemark.resync_seen"];

/// All of them as they are, at one moment.
async fn remember(connection: &mut PgConnection) {
    let begin = "begin isolation level repeatable read";
    let mut transaction = connection.begin_with(begin).await.unwrap();
    for table in TABLES {
        let sql = format!("create table if not exists {table}_then as table {table}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// All of them as they were, in one transaction, as a standby has it that heard of no later commit.
async fn go_back(connection: &mut PgConnection) {
    let mut transaction = connection.begin().await.unwrap();
    for table in TABLES.into_iter().rev() {
        let sql = format!("delete from {table}");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
    }
    for table in TABLES {
        let sql = format!("insert into {table} overriding system value table {table}_then");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// A world whose daemon reaches Postgres through a proxy, and a way to it that goes round.
async fn world(config: Config) -> (World, Proxy, PgConnection) {
    let stack = Stack::shared();
    let proxy = Proxy::to(stack.postgres.port()).unwrap();
    let database = stack.postgres.database().await.unwrap();
    let target = format!("postgres://tidemark@127.0.0.1:{}/{database}", proxy.port());
    let world = World::of(&stack.mongo.uri(), &target, config).await;
    (world, proxy, stack.postgres.connect(&database).await.unwrap())
}

#[tokio::test]
async fn rows_and_position_that_went_back_behind_a_cut_wire_are_applied_again() {
    let (world, proxy, mut aside) =
        world(Config { streams: stream("odd", "odd", ""), ..Config::default() }).await;
    let odd = world.collection("odd");
    odd.insert_many(documents(0..50)).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    odd.insert_many(documents(50..60)).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    remember(&mut aside).await;
    odd.insert_many(documents(60..100)).await.unwrap();
    odd.delete_many(doc! { "n": { "$lt": 5 } }).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    go_back(&mut aside).await;
    proxy.set(Mode::Pass);
    odd.insert_many(documents(100..110)).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    let is_said = |s: &serde_json::Value| s["rewound_at"].is_string() && s["phase"] == "streaming";
    daemon.until("odd", "says so", is_said).await;
    world
        .until(
            "an incident is open",
            "select exists (select from tidemark.incident where code = 'target_rewound')",
        )
        .await;
    assert!(
        daemon.metric("tidemark_commit_failures_total{class=\"rewound\",stream=\"odd\"}").await
            >= 1.0
    );
}

#[tokio::test]
async fn a_silent_stream_finds_out_as_well_that_its_table_went_back() {
    let (world, proxy, mut aside) =
        world(Config { streams: stream("odd", "odd", ""), ..Config::default() }).await;
    let odd = world.collection("odd");
    odd.insert_many(documents(0..50)).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", "public.odd").await;
    remember(&mut aside).await;
    odd.insert_many(documents(50..90)).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    go_back(&mut aside).await;
    proxy.set(Mode::Pass);
    // Nothing happens at the source any more.
    world.until_equal("odd", "public.odd").await;
}

#[tokio::test]
async fn a_resync_whose_last_chunks_went_back_walks_them_again() {
    let extra = "resync.chunk_documents = 50\nresync.documents_per_second_max = 400".to_owned();
    let (world, proxy, mut aside) =
        world(Config { extra, streams: stream("odd", "odd", ""), ..Config::default() }).await;
    world.collection("odd").insert_many(documents(0..1_200)).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    // The position moves on, so that the resync takes all the others for older than its start.
    world.collection("odd").insert_many(documents(1_200..1_201)).await.unwrap();
    world.until_equal("odd", "public.odd").await;
    let (code, told) = run(&world, &["resync", "odd", "--reason", "a test", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    // By the walk's own account, which stays when it has ended.
    let read = |at_least| {
        format!(
            "select documents_read > {at_least} from tidemark.resync where reason = 'requested'"
        )
    };
    world.until("it has begun to walk", &read(100)).await;
    remember(&mut aside).await;
    world.until("it has walked on", &read(400)).await;
    proxy.set(Mode::Refuse);
    proxy.cut();
    go_back(&mut aside).await;
    proxy.set(Mode::Pass);
    daemon
        .until("odd", "has ended its resync", |s| {
            s["resync"].is_null() && s["phase"] == "streaming"
        })
        .await;
    world.until_equal("odd", "public.odd").await;
    let deleted: i64 = world.scalar("select sum(rows_deleted)::bigint from tidemark.resync").await;
    assert_eq!(deleted, 0, "what went unseen with the lost chunks was not swept");
}

/// Chunks of a walk do not wait for the disk: those not flushed are lost when Postgres crashes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_were_not_flushed_when_postgres_crashed_are_walked_again() {
    const DOCUMENTS: i32 = 3_000;
    let settings = vec!["wal_writer_delay=10s".to_owned()];
    let mut postgres =
        Postgres::start(&PostgresOptions { settings, ..PostgresOptions::durable() }).unwrap();
    let database = postgres.database().await.unwrap();
    let extra = "resync.chunk_documents = 50\nresync.documents_per_second_max = 1000".to_owned();
    let config = Config { extra, streams: stream("odd", "odd", ""), ..Config::default() };
    let world = World::of(&Stack::shared().mongo.uri(), &postgres.url(&database), config).await;
    world.collection("odd").insert_many(documents(0..DOCUMENTS)).await.unwrap();
    let daemon = world.start();
    daemon.until_phase("odd", "streaming").await;
    world.until_equal("odd", "public.odd").await;
    // Every row is to be written again, so that a chunk that is lost takes rows with it.
    world.execute("update public.odd set doc = '{}', _hash = null, _cluster_time = 0").await;
    let (code, told) = run(&world, &["resync", "odd", "--reason", "a test", "--execute"]);
    assert_eq!(code, Some(0), "{told}");
    for at_least in [300, 900, 1_500] {
        let walked = |s: &serde_json::Value| {
            s["resync"].is_null() || s["resync"]["documents_read"].as_u64() > Some(at_least)
        };
        daemon.until("odd", "has walked on", walked).await;
        postgres.kill().unwrap();
        postgres.restart().unwrap();
    }
    daemon
        .until("odd", "has ended its resync", |s| {
            s["resync"].is_null() && s["phase"] == "streaming"
        })
        .await;
    let rows: i64 = world.scalar("select count(*) from public.odd").await;
    assert_eq!(rows, i64::from(DOCUMENTS), "no living row was swept");
    world.until_equal("odd", "public.odd").await;
}
