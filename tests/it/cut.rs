//! Guarantee 15: a snapshot of Postgres shows a group's tables as the source was at one cluster
//! time, or says that it does not.
//!
//! Amounts are moved between documents of three collections by transactions, so their sum is the
//! same in every state the source was ever in, and in no mixture of two of them. For minutes, with
//! a lag beyond the source's snapshot history: `TIDEMARK_CUT_SECONDS=600 cargo test --test it cut`.

use std::time::{Duration, Instant};

use devstack::{Mongo, MongoOptions, Stack};
use fastrand::Rng;
use mongodb::bson::{Document, doc};
use mongodb::{Client, ClientSession, Collection};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Config, Daemon, World, eventually, run, stream};

const ACCOUNTS: [&str; 3] = ["current", "savings", "loan"];
const EACH: i32 = 20;
const AMOUNT: i64 = 1_000;
/// Accounts that move as a whole.
const WANDERING: i32 = 6;
const TOTAL: i64 = (3 * EACH + WANDERING) as i64 * AMOUNT;

async fn open_accounts(world: &World) {
    for (place, name) in ACCOUNTS.into_iter().enumerate() {
        let last = EACH + if place == 0 { WANDERING } else { 0 };
        let accounts = (0..last).map(|n| doc! { "_id": n, "amount": AMOUNT });
        world.collection(name).insert_many(accounts).await.unwrap();
    }
}

/// Moves amounts until told to stop.
struct Mover {
    uri: String,
    database: String,
    rng: Rng,
}

impl Mover {
    async fn work(mut self, stop: CancellationToken) -> u64 {
        let client = Client::with_uri_str(&self.uri).await.unwrap();
        let database = client.database(&self.database);
        let accounts = ACCOUNTS.map(|name| database.collection::<Document>(name));
        let mut moved = 0;
        while !stop.is_cancelled() {
            let Ok(mut session) = client.start_session().await else { continue };
            // A primary that steps down, or a conflict: whatever came of it, the sum is the same.
            match self.one(&mut session, &accounts).await {
                Ok(()) => moved += 1,
                Err(_) => _ = session.abort_transaction().await,
            }
            tokio::time::sleep(Duration::from_millis(self.rng.u64(1..10))).await;
        }
        moved
    }

    async fn one(
        &mut self,
        session: &mut ClientSession,
        accounts: &[Collection<Document>; 3],
    ) -> mongodb::error::Result<()> {
        let Self { rng, .. } = self;
        let (from, to) = (&accounts[rng.usize(..3)], &accounts[rng.usize(..3)]);
        let amount = rng.i64(1..50);
        session.start_transaction().await?;
        if rng.u8(..) < 60 {
            // The whole account goes elsewhere, if it is here; its id is of no account that stays.
            let id = doc! { "_id": EACH + rng.i32(0..WANDERING) };
            let gone = from.find_one_and_delete(id).session(&mut *session).await?;
            let Some(account) = gone else { return session.abort_transaction().await };
            to.insert_one(account).session(&mut *session).await?;
        } else {
            let change = |id: i32, amount: i64| {
                (doc! { "_id": id }, doc! { "$inc": { "amount": amount, "moves": 1 } })
            };
            let (filter, update) = change(rng.i32(0..EACH), -amount);
            from.update_one(filter, update).session(&mut *session).await?;
            let (filter, update) = change(rng.i32(0..EACH), amount);
            to.update_one(filter, update).session(&mut *session).await?;
        }
        session.commit_transaction().await
    }
}

/// What a reader of the tables has seen.
#[derive(Debug, Default)]
struct Seen {
    snapshots: u64,
    exact: u64,
    /// Cluster times at which the tables were exact.
    moments: u64,
    /// How long they were not, each time.
    inexact: Vec<Duration>,
    wrong: Vec<String>,
}

impl Seen {
    async fn of(url: String, stop: CancellationToken) -> Self {
        let mut pg = PgConnection::connect(&url).await.unwrap();
        let (mut seen, mut last, mut since) = (Self::default(), 0, None::<Instant>);
        while !stop.is_cancelled() {
            let (is_exact, at, sum) = look(&mut pg).await.unwrap();
            seen.snapshots += 1;
            if is_exact {
                seen.exact += 1;
                seen.moments += u64::from(at > last);
                seen.inexact.extend(since.take().map(|since| since.elapsed()));
                if sum != TOTAL {
                    seen.wrong.push(format!("{sum} at {}.{}", at >> 32, at & 0xffff_ffff));
                }
            } else {
                since.get_or_insert_with(Instant::now);
            }
            if at < last {
                seen.wrong.push(format!("the position went back from {last} to {at}"));
            }
            last = at;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen
    }
}

/// One snapshot: whether it says it is exact, of when it is, and the sum it shows.
async fn look(pg: &mut PgConnection) -> sqlx::Result<(bool, i64, i64)> {
    let mut snapshot = pg.begin_with("begin isolation level repeatable read read only").await?;
    let mut sum = 0;
    let said = "select count(*) = 3 and bool_and(exact), coalesce(min(cluster_time), 0) from \
                tidemark.position";
    let (is_exact, at): (bool, i64) = sqlx::query_as(said).fetch_one(&mut *snapshot).await?;
    for table in ACCOUNTS {
        let sql = format!("select coalesce(sum(amount), 0)::bigint from public.{table}");
        let sql = sqlx::AssertSqlSafe(sql);
        sum += sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *snapshot).await?;
    }
    snapshot.commit().await?;
    Ok((is_exact, at, sum))
}

/// What comes in between.
async fn disturb(
    world: &World,
    mongo: &Mongo,
    daemon: Daemon,
    turn: usize,
    lag: Duration,
) -> Daemon {
    match turn % 4 {
        0 => {
            daemon.kill();
            world.start()
        }
        1 => {
            let name = ACCOUNTS[turn % 3];
            let asked = ["resync", name, "--reason", "the cut", "--execute"];
            let (code, told) = run(world, &asked);
            assert_eq!(code, Some(0), "{told}");
            daemon
        }
        2 => {
            mongo.step_down().await.unwrap();
            daemon
        }
        _ => {
            // What is to be read at a time the source no longer keeps is read as it is now.
            daemon.kill();
            tokio::time::sleep(lag).await;
            world.start()
        }
    }
}

async fn keep_history(mongo: &Mongo, seconds: i32) {
    for host in mongo.hosts() {
        let uri = format!("mongodb://{host}/?directConnection=true");
        let admin = Client::with_uri_str(uri).await.unwrap().database("admin");
        let set = doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": seconds };
        admin.run_command(set).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_that_says_it_is_exact_ever_shows_a_wrong_sum() {
    let seconds = std::env::var("TIDEMARK_CUT_SECONDS").map_or(30, |text| text.parse().unwrap());
    let (is_long, seed) = (seconds >= 420, fastrand::u64(..));
    println!("seed {seed}");
    let options = MongoOptions { members: 3, cache_gigabytes: 0.25, ..MongoOptions::default() };
    let mongo = Mongo::start(&options).unwrap();
    let postgres = &Stack::shared().postgres;
    let url = postgres.url(&postgres.database().await.unwrap());
    let column = "column = [ { name = \"amount\", field = \"amount\", type = \"bigint\" } ]";
    let streams = ACCOUNTS.map(|name| stream(name, name, column)).concat();
    let world = World::of(&mongo.uri(), &url, Config { streams, ..Config::default() }).await;
    open_accounts(&world).await;
    keep_history(&mongo, if is_long { 300 } else { 1 }).await;
    let lag = Duration::from_secs(if is_long { 330 } else { 6 });
    assert!(world.command(&["migrate"]).status().unwrap().success());

    let (moving, reading) = (CancellationToken::new(), CancellationToken::new());
    let rng = Rng::with_seed(seed);
    let mover = Mover { uri: mongo.uri(), database: world.name.clone(), rng };
    let mover = tokio::spawn(mover.work(moving.clone()));
    let reader: JoinHandle<Seen> = tokio::spawn(Seen::of(url.clone(), reading.clone()));
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut daemon = world.start();
    for turn in 0.. {
        daemon.until("current", "is followed", |s| s["phase"] != "resuming").await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        if turn >= 4 && Instant::now() > deadline {
            break;
        }
        daemon = disturb(&world, &mongo, daemon, turn, lag).await;
    }
    // A repair of one table is no reason for the others to be inexact for ever.
    eventually("all of it is exact", async || look(&mut world.pg().await).await.unwrap().0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    moving.cancel();
    let moved = mover.await.unwrap();
    for name in ACCOUNTS {
        world.until_equal(name, &format!("public.{name}")).await;
        daemon.until_phase(name, "streaming").await;
    }
    reading.cancel();
    let seen = reader.await.unwrap();
    let not_exact: Duration = seen.inexact.iter().sum();
    println!(
        "{moved} moves, {} snapshots, {} exact of {} moments; not exact for {not_exact:.1?}, in {} \
         spells, the longest {:.1?}",
        seen.snapshots,
        seen.exact,
        seen.moments,
        seen.inexact.len(),
        seen.inexact.iter().max().copied().unwrap_or_default()
    );
    assert!(seen.wrong.is_empty(), "{} wrong: {:?}", seen.wrong.len(), seen.wrong.first());
    assert!(moved > 300 && seen.moments > 50, "too little was seen: {moved} moves, {seen:?}");
}
