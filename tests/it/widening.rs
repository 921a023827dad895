//! One table's trouble at the start is its own: locked, or somebody else's.

use std::time::{Duration, Instant};

use mongodb::bson::doc;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::{Config, Stopwatch, World, stream};

fn two(column: &str) -> String {
    format!("{}{}", stream("one", "one", column), stream("two", "two", column))
}

const COLUMN: &str = "column = [ { name = \"n\", field = \"n\", type = \"integer\" } ]";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_locked_when_it_is_to_be_widened_keeps_no_other_and_hardly_its_readers() {
    let extra = "retry.escalate_after = \"3s\"\nretry.delay_max = \"2s\"";
    let world = World::with(Config { apart: true, streams: two(""), extra: extra.into() }).await;
    for name in ["one", "two"] {
        world.collection(name).insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    }
    let mut daemon = world.start();
    daemon.until_phase("one", "streaming").await;
    daemon.until_phase("two", "streaming").await;
    daemon.stop();

    let mut report = world.pg().await;
    sqlx::raw_sql("set application_name = 'yearly report'; begin; select * from public.one")
        .execute(&mut report)
        .await
        .unwrap();
    let pid: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut report).await.unwrap();

    let wider = world.beside(&Config { apart: true, streams: two(COLUMN), extra: extra.into() });
    let daemon = wider.start();
    // The other is followed meanwhile, with its new column.
    daemon.until_phase("two", "streaming").await;
    wider.collection("two").insert_one(doc! { "_id": 2, "n": 2 }).await.unwrap();
    assert_eq!(wider.until_equal("two", "public.two").await, 2);
    assert_eq!(wider.scalar::<i64>("select count(*) from public.two where n = 2").await, 1);
    // Who holds the lock is named.
    let named = format!("process {pid} (user tidemark, application \"yearly report\", for ");
    let told = daemon
        .until("one", "the holder is named", |s| {
            s["reason"].as_str().is_some_and(|told| told.contains(&named))
        })
        .await;
    assert_eq!(told["failing"][0]["code"], "target_schema_mismatch", "{told:#}");
    let incident = format!(
        "select count(*) = 1 from tidemark.incident where code = 'target_schema_mismatch' and \
         stream = 'one' and summary like '%process {pid} %' and resolved_at is null"
    );
    wider.until("an incident names it, too", &incident).await;
    // Whoever reads meanwhile waits no longer than the change does.
    let reading = Instant::now();
    let mut longest = Duration::ZERO;
    let met = Duration::from_millis(500);
    let seconds = Duration::from_secs;
    while reading.elapsed() < seconds(8) || longest < met && reading.elapsed() < seconds(60) {
        let begun = Stopwatch::start();
        wider.scalar::<i64>("select count(*) from public.one").await;
        longest = longest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(longest > met, "no reader met a change that waits: {longest:?}");
    assert!(longest < seconds(8), "{longest:?}");

    sqlx::raw_sql("commit").execute(&mut report).await.unwrap();
    daemon.until_phase("one", "streaming").await;
    wider.collection("one").insert_one(doc! { "_id": 2, "n": 2 }).await.unwrap();
    assert_eq!(wider.until_equal("one", "public.one").await, 2);
    assert_eq!(wider.scalar::<i64>("select count(*) from public.one where n = 2").await, 1);
}

#[tokio::test]
async fn nothing_is_done_to_a_table_that_is_somebody_elses() {
    let world =
        World::with(Config { apart: true, streams: two(COLUMN), ..Config::default() }).await;
    world.execute("create table public.one (id integer primary key, surname text)").await;
    for name in ["one", "two"] {
        world.collection(name).insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
    }
    let mut daemon = world.start();
    let halted = daemon.until_phase("one", "halted").await;
    assert_eq!(halted["halt_code"], "target_schema_mismatch");
    let reason = halted["reason"].as_str().unwrap();
    assert!(reason.contains("column id of table public.one is integer"), "{reason}");
    assert!(
        reason.contains("has no column doc jsonb, as every table of tidemark's has"),
        "{reason}"
    );
    assert_eq!(world.until_equal("two", "public.two").await, 1);
    let columns = "select attname::text from pg_attribute where attrelid = 'public.one'::regclass \
                   and attnum > 0";
    assert_eq!(world.column(columns).await, ["id", "surname"]);
    daemon.stop();

    // The same columns, and followed into by another service.
    let streams = stream("mine", "two", COLUMN).replace("table = \"mine\"", "table = \"two\"");
    let other =
        world.beside(&Config { apart: true, extra: "service = \"other\"\n".to_owned(), streams });
    let (code, told) = crate::support::run(&other, &["migrate"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("table public.two is followed into by stream two of"), "{told}");
    let daemon = other.start();
    assert_eq!(daemon.until_phase("mine", "halted").await["halt_code"], "source_foreign");
}

/// Several may start at once, of one service and on one database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_on_an_empty_database_make_its_tables_once() {
    let world = World::with(Config { streams: two(COLUMN), ..Config::default() }).await;
    let daemons = [world.start(), world.start(), world.start()];
    for name in ["one", "two"] {
        world.collection(name).insert_one(doc! { "_id": 1, "n": 1 }).await.unwrap();
        assert_eq!(world.until_equal(name, &format!("public.{name}")).await, 1);
    }
    for daemon in &daemons {
        assert!(!daemon.log().contains("halted"), "{}", daemon.log());
    }
    let mut connection = PgConnection::connect(&world.target_url).await.unwrap();
    let sql = AssertSqlSafe(
        "select count(*) = count(distinct version) from tidemark._sqlx_migrations".to_owned(),
    );
    assert!(sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection).await.unwrap());
}
