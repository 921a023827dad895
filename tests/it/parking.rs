//! Guarantee 10 inside a group: a table that cannot be written is parked with its reason, its
//! neighbours go on as they did, and it is repaired by itself once the reason is gone.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::alerting::until_incident;
use crate::support::{Config, Daemon, Stopwatch, World, run, stream};

/// What a neighbour may ever be held up: a batch's pause, which is a statement's time limit or a
/// lock's, both less than a lease lasts.
const PAUSE_MAX: Duration = Duration::from_secs(6);

/// How long the trouble goes on once the stream is parked: a neighbour that it held up would wait
/// longer. Once, a machine that has other work may hold it up for less.
const SEEN_PARKED: Duration = Duration::from_secs(10);

const QUICK: &str = "migrate.automatic = false\nretry.escalate_after = \"1s\"\n\
                     alert.resolve_hold = \"1s\"\nrecord.dead_letter_count_min = 5\n\
                     record.dead_letter_fraction_max = 0.0001\nresync.automatic_per_day_max = 1\n";

/// Writes to the neighbour all the while, and takes the time until each write is seen.
pub struct Neighbour {
    stop: CancellationToken,
    task: JoinHandle<Vec<Duration>>,
}

impl Neighbour {
    pub fn of(world: &World) -> Self {
        let (stop, url) = (CancellationToken::new(), world.target_url.clone());
        let (well, told) = (world.collection("well"), stop.clone());
        let task = tokio::spawn(async move {
            let mut pg = PgConnection::connect(&url).await.unwrap();
            let mut taken = Vec::new();
            while !told.is_cancelled() {
                let n = i32::try_from(taken.len()).unwrap();
                well.insert_one(doc! { "n": n }).await.unwrap();
                let begun = Stopwatch::start();
                let seen = "select exists (select from public.well where n = $1)";
                while !sqlx::query_scalar::<_, bool>(seen).bind(n).fetch_one(&mut pg).await.unwrap()
                {
                    assert!(begun.elapsed() < Duration::from_secs(60), "write {n} is not seen");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                taken.push(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            taken
        });
        Self { stop, task }
    }

    pub async fn latencies(self) -> Vec<Duration> {
        self.stop.cancel();
        let mut taken = self.task.await.unwrap();
        taken.sort_unstable();
        taken
    }
}

/// What is done to a table or its collection, and undone.
trait Trouble {
    /// The codes it may go by.
    fn codes(&self) -> &'static [&'static str];
    /// Why it is walked again.
    fn reasons(&self) -> &'static [&'static str] {
        &["parked"]
    }
    async fn begin(&mut self, world: &World);
    async fn end(&mut self, world: &World);
}

/// Told by two statements.
struct Sql(&'static [&'static str], &'static str, &'static str);

impl Trouble for Sql {
    fn codes(&self) -> &'static [&'static str] {
        self.0
    }

    async fn begin(&mut self, world: &World) {
        world.execute(self.1).await;
    }

    async fn end(&mut self, world: &World) {
        world.execute(self.2).await;
    }
}

/// The table is dropped, and made anew by whoever may.
struct Dropped;

impl Trouble for Dropped {
    fn codes(&self) -> &'static [&'static str] {
        &["target_schema_mismatch"]
    }

    fn reasons(&self) -> &'static [&'static str] {
        &["parked", "table_replaced"]
    }

    async fn begin(&mut self, world: &World) {
        world.execute("drop table public.sick").await;
    }

    async fn end(&mut self, world: &World) {
        let (code, told) = run(world, &["migrate"]);
        assert_eq!(code, Some(0), "{told}");
    }
}

/// Somebody holds the table for themselves, in a transaction left open.
struct Locked(Option<PgConnection>);

impl Trouble for Locked {
    fn codes(&self) -> &'static [&'static str] {
        &["target_slow", "stream_parked"]
    }

    async fn begin(&mut self, world: &World) {
        let mut pg = world.pg().await;
        let lock = "begin; lock table public.sick in access exclusive mode";
        sqlx::raw_sql(lock).execute(&mut pg).await.unwrap();
        self.0 = Some(pg);
    }

    async fn end(&mut self, _world: &World) {
        self.0.take().unwrap().close().await.unwrap();
    }
}

/// The collection is dropped, and made anew with other documents.
struct Gone;

impl Trouble for Gone {
    fn codes(&self) -> &'static [&'static str] {
        &["source_dropped"]
    }

    fn reasons(&self) -> &'static [&'static str] {
        &["parked", "collection_recreated"]
    }

    async fn begin(&mut self, world: &World) {
        world.collection("sick").drop().await.unwrap();
    }

    async fn end(&mut self, world: &World) {
        // Too few are gone for anybody to be asked.
        let documents = (5..230).map(|n| doc! { "_id": n, "n": n + 1 });
        world.collection("sick").insert_many(documents).await.unwrap();
    }
}

pub async fn world(more: &str) -> World {
    world_of(more, "").await
}

/// The same, with what else is configured of the stream that gets into trouble.
pub async fn world_of(more: &str, sick: &str) -> World {
    let column = "column = [ { name = \"n\", field = \"n\", type = \"integer\" } ]";
    let sick = stream("sick", "sick", &format!("{sick}\n{column}"));
    let streams = format!("{sick}{}", stream("well", "well", column));
    let extra = format!("{QUICK}{more}");
    let world = World::with(Config { extra, streams, ..Config::default() }).await;
    let documents = (0..200).map(|n| doc! { "_id": n, "n": n });
    world.collection("sick").insert_many(documents).await.unwrap();
    assert_eq!(run(&world, &["migrate"]).0, Some(0));
    world
}

/// Changes that are missed while the stream is parked: some of each kind, in one transaction, so
/// that no few of them are taken for an accident.
pub async fn write(world: &World, round: i32) {
    let sick = world.collection("sick");
    let mut session = world.source.client().start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let set = doc! { "$set": { "n": 1_000 + round } };
    let some = doc! { "_id": { "$lt": 20 } };
    sick.update_many(some, set).session(&mut session).await.unwrap();
    sick.delete_one(doc! { "_id": 100 + round }).session(&mut session).await.unwrap();
    let documents: Vec<Document> =
        (0..40).map(|n| doc! { "_id": 1_000 * (round + 1) + n, "n": n }).collect();
    sick.insert_many(documents).session(&mut session).await.unwrap();
    session.commit_transaction().await.unwrap();
}

/// Both are followed, and the one that is well is written to all the time.
async fn followed(more: &str) -> (World, Daemon, Neighbour) {
    let world = world(more).await;
    let daemon = world.start();
    for name in ["sick", "well"] {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
    }
    let neighbour = Neighbour::of(&world);
    tokio::time::sleep(Duration::from_secs(1)).await;
    (world, daemon, neighbour)
}

async fn is_parked_and_repaired(mut trouble: impl Trouble) {
    let (world, daemon, neighbour) = followed("").await;

    let shown = "select (extract(epoch from wall_time) * 1000)::bigint from tidemark.position \
                 where stream = 'sick'";
    let shown: i64 = world.scalar(shown).await;
    trouble.begin(&world).await;
    let is_gone = trouble.codes() == ["source_dropped"];
    if !is_gone {
        write(&world, 0).await;
    }
    let missed = chrono::Utc::now().timestamp_millis();
    let parked = daemon.until_phase("sick", "parked").await;
    let code = parked["halt_code"].as_str().unwrap_or_default().to_owned();
    assert!(trouble.codes().contains(&&*code), "{parked:#}");
    assert!(parked["exact"] == false && parked["reason"].is_string(), "{parked:#}");
    let is_told = |incidents: &[Value]| {
        incidents.iter().any(|incident| incident["stream"] == "sick" && incident["code"] == *code)
    };
    until_incident(&daemon, "it is told by its cause", is_told).await;
    let is_well = |well: &Value| well["phase"] == "streaming" && well["exact"] == true;
    daemon.until("well", "is well", is_well).await;
    assert_ne!(daemon.status().await["verdict"], "healthy");
    if !is_gone {
        write(&world, 1).await;
    }
    // It is looked at again and again meanwhile, which costs the neighbour nothing.
    tokio::time::sleep(SEEN_PARKED).await;
    daemon.until_phase("sick", "parked").await;

    trouble.end(&world).await;
    daemon.until_phase("sick", "streaming").await;
    world.until_equal("sick", "public.sick").await;
    until_incident(&daemon, "all is over", <[Value]>::is_empty).await;
    let status = daemon.until("sick", "is exact again", |s| s["exact"] == true).await;
    assert!(status["halt_code"].is_null(), "{status:#}");
    let reason: String =
        world.scalar("select reason from tidemark.resync order by id desc limit 1").await;
    assert!(trouble.reasons().contains(&&*reason), "{reason}");
    // It was blind from when its group went on without it, whatever the group's position is now:
    // not before what it showed in good health, and before the first change that it missed.
    let blind: (i64, f64) = world
        .row(
            "select (extract(epoch from blind_from) * 1000)::bigint, extract(epoch from \
             blind_until - blind_from)::float8 from tidemark.resync where stream = 'sick' order by \
             id desc limit 1",
        )
        .await;
    let is_from_then = (shown..=missed).contains(&blind.0);
    assert!(is_from_then && blind.1 >= 8.0, "{shown}, {missed}: from {}, {} s", blind.0, blind.1);
    let walks: i64 =
        world.scalar("select count(*) from tidemark.resync where stream = 'well'").await;
    assert_eq!(walks, 1, "the neighbour was never walked again");
    assert!(!daemon.phases("well").contains(&"halted".to_owned()), "{:?}", daemon.phases("well"));
    let letters: i64 =
        world.scalar("select count(*) from tidemark.dead_letter where stream = 'well'").await;
    assert_eq!(letters, 0);

    let taken = neighbour.latencies().await;
    world.until_equal("well", "public.well").await;
    let (last, longest) = (taken[taken.len() - 2], taken[taken.len() - 1]);
    let (many, half) = (taken.len(), taken[taken.len() / 2]);
    println!("{code}: {many} writes to the neighbour, p50 {half:.1?}, max {longest:.1?}");
    let is_held_up = last >= PAUSE_MAX || longest >= SEEN_PARKED;
    assert!(half < Duration::from_millis(500) && !is_held_up, "{half:?}, {last:?}, {longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_dropped() {
    is_parked_and_repaired(Dropped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_that_is_retyped() {
    is_parked_and_repaired(Sql(
        &["target_schema_mismatch"],
        "alter table public.sick alter column n type boolean using n > 0",
        "alter table public.sick alter column n type integer using n::integer",
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_somebody_locks() {
    is_parked_and_repaired(Locked(None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_constraint_that_refuses_everything() {
    is_parked_and_repaired(Sql(
        &["dead_letter_rate"],
        "alter table public.sick add constraint never check (false) not valid",
        "alter table public.sick drop constraint never",
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collection_that_is_dropped() {
    is_parked_and_repaired(Gone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_is_slow() {
    is_parked_and_repaired(Sql(
        &["target_slow"],
        "create function public.slow() returns trigger language plpgsql as $$ begin perform \
         pg_sleep(0.5); return null; end $$; create trigger slow after insert or update or delete \
         on public.sick for each row execute function public.slow()",
        "drop trigger slow on public.sick",
    ))
    .await;
}

/// Of a table whose every row takes this long to write.
fn slow(table: &str, seconds: &str) -> String {
    format!(
        "create or replace function public.slow() returns trigger language plpgsql as $$ begin \
         perform pg_sleep({seconds}); return null; end $$; create trigger slow after insert or \
         update or delete on public.{table} for each row execute function public.slow()"
    )
}

/// Each batch of it is small, and written within the time that a statement has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trigger_that_is_slow_for_a_few_rows_at_a_time() {
    let (world, daemon, neighbour) = followed("lease.duration = \"15s\"\n").await;
    world.execute(&slow("sick", "0.5")).await;
    let begun = Instant::now();
    for n in 0.. {
        let set = doc! { "$set": { "n": 1_000 + n } };
        world.collection("sick").update_one(doc! { "_id": n % 200 }, set).await.unwrap();
        if daemon.stream("sick").await["phase"] == "parked" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "it is not parked");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    println!("parked after {:.1?}", begun.elapsed());
    let parked = daemon.stream("sick").await;
    assert_eq!(parked["halt_code"], "target_slow", "{parked:#}");
    write(&world, 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    daemon.until_phase("sick", "parked").await;

    world.execute("drop trigger slow on public.sick").await;
    daemon.until_phase("sick", "streaming").await;
    world.until_equal("sick", "public.sick").await;
    let taken = neighbour.latencies().await;
    world.until_equal("well", "public.well").await;
    let (half, last) = (taken[taken.len() / 2], taken[taken.len() - 1]);
    println!("{} writes to the neighbour, p50 {half:.1?}, max {last:.1?}", taken.len());
    assert!(half < Duration::from_millis(300) && last < PAUSE_MAX, "p50 {half:?}, max {last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_slow_for_every_table_parks_none() {
    let world = world("lease.duration = \"15s\"\n").await;
    let daemon = world.start();
    for name in ["sick", "well"] {
        daemon.until_phase(name, "streaming").await;
        world.until_equal(name, &format!("public.{name}")).await;
        world.execute(&slow(name, "0.3")).await;
    }
    for n in 0..30 {
        for name in ["sick", "well"] {
            let set = doc! { "$set": { "n": 1_000 + n } };
            let by_id = doc! { "_id": n };
            world.collection(name).update_one(by_id, set).upsert(true).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    for name in ["sick", "well"] {
        world.until_equal(name, &format!("public.{name}")).await;
        let phases = daemon.phases(name);
        assert!(!phases.contains(&"parked".to_owned()), "{name}: {phases:?}");
    }
    let parked = "select count(*) from tidemark.resync where reason = 'parked'";
    assert_eq!(world.scalar::<i64>(parked).await, 0);
}
