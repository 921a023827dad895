//! Guarantee 15: a snapshot of Postgres shows a group's tables as the source was at one cluster
//! time, or says that it does not.
//!
//! Amounts are moved between documents of three collections by transactions, and three look at the
//! sum while everything goes on: kills, elections, resyncs, parked tables, lost answers, and a lag
//! beyond what the source keeps of its past. A fourth compares every table that is said to be exact
//! with its collection as it was at that time.

mod accounts;
mod disturbance;
mod onlookers;

use std::time::{Duration, Instant};

use devstack::{DocumentDb, Engine, Mongo, MongoOptions, Stack};
use fastrand::Rng;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::accounts::{ACCOUNTS, EXTRA, Mover, Pace, open_accounts, streams};
use self::disturbance::{Disturbance, Scene, keep_history};
use self::onlookers::{Compared, Seen, look, source};
use crate::support::{Config, Daemon, World};

const MOVERS: usize = 2;
const ONLOOKERS: usize = 3;

/// How long it may take until all of it is exact, under writers that do not rest.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the source keeps of its past, in seconds, by default and here.
const HISTORY: i32 = 300;
const HISTORY_SHORT: i32 = 5;

/// Each in its turn, over and over.
const ALL: [Disturbance; 9] = [
    Disturbance::Resync,
    Disturbance::Kill,
    Disturbance::StepDown,
    Disturbance::Lag(Duration::from_secs(12)),
    Disturbance::Resync,
    Disturbance::KillPrimary,
    Disturbance::CutSessions,
    Disturbance::Lock,
    Disturbance::DieAtCommit,
];

/// What was to be seen of the cut while it was disturbed.
#[derive(Debug, Default)]
struct Outcome {
    moved: u64,
    seen: Seen,
    compared: Compared,
}

/// Writers, and who looks on.
struct Cut {
    world: World,
    mongo: Mongo,
    rng: Rng,
    pace: Pace,
    history: i32,
    begun: Instant,
}

impl Cut {
    async fn new() -> Self {
        let options = MongoOptions { members: 3, cache_gigabytes: 0.25, ..MongoOptions::default() };
        let mongo = Mongo::start(&options).unwrap();
        let uri = mongo.uri();
        Self::of(mongo, &uri).await
    }

    /// Followed from `uri`, which leads to the set.
    async fn of(mongo: Mongo, uri: &str) -> Self {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let postgres = &Stack::shared().postgres;
        let url = postgres.url(&postgres.database().await.unwrap());
        let config = Config { streams: streams(), extra: EXTRA.to_owned(), ..Config::default() };
        let world = World::of(uri, &url, config).await;
        open_accounts(&world).await;
        assert!(world.command(&["migrate"]).status().unwrap().success());
        let rng = Rng::with_seed(seed);
        let pace = Pace::Steady;
        Self { world, mongo, rng, pace, history: HISTORY, begun: Instant::now() }
    }

    /// Disturbs it by one after the other, for as long as there is something to do.
    async fn run(
        &mut self,
        mut next: impl FnMut(usize, Duration) -> Option<Disturbance>,
    ) -> Outcome {
        let (moving, reading) = (CancellationToken::new(), CancellationToken::new());
        let (uri, database) = (self.mongo.uri(), self.world.name.clone());
        let movers: Vec<_> = (0..MOVERS)
            .map(|_| {
                let (rng, pace) = (self.rng.fork(), self.pace);
                let mover = Mover { uri: uri.clone(), database: database.clone(), rng, pace };
                tokio::spawn(mover.work(moving.clone()))
            })
            .collect();
        let url = &self.world.target_url;
        let onlookers: Vec<_> = (0..ONLOOKERS)
            .map(|_| tokio::spawn(Seen::sums(url.clone(), reading.clone())))
            .collect();
        let source = source(&uri, &database).await;
        let comparing = tokio::spawn(Compared::with_source(url.clone(), source, reading.clone()));
        let mut daemon = self.world.start();
        for turn in 0.. {
            let is_followed = |s: &Value| s["leader"] == true && s["phase"] != "resuming";
            daemon.until("current", "is followed", is_followed).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            let Some(what) = next(turn, self.begun.elapsed()) else { break };
            daemon = self.disturb(what, daemon).await;
        }
        let moved = self.settle(&daemon, moving, movers).await;
        reading.cancel();
        let mut seen = Seen::default();
        for onlooker in onlookers {
            seen.add(onlooker.await.unwrap());
        }
        let compared = comparing.await.unwrap();
        println!("{moved} moves, {}", seen.told());
        println!("{} tables compared with the source, {} untold", compared.tables, compared.untold);
        Outcome { moved, seen, compared }
    }

    /// The same disturbances again until enough was seen: of a slow machine, less is seen at once.
    async fn run_until(
        &mut self,
        disturbances: &[Disturbance],
        mut all: Outcome,
        is_enough: impl Fn(&Outcome) -> bool,
    ) {
        let begun = Instant::now();
        while !is_enough(&all) {
            assert!(begun.elapsed() < PATIENCE, "too little was seen: {all:?}");
            let outcome = self.run(|turn, _| disturbances.get(turn).copied()).await;
            outcome.assert_right();
            all.add(outcome);
        }
    }

    async fn disturb(&mut self, what: Disturbance, daemon: Daemon) -> Daemon {
        let behind: f64 = self
            .world
            .scalar(
                "select extract(epoch from now() - min(wall_time))::float8 from tidemark.position",
            )
            .await;
        println!("{:>6.1?} {what:?}, {behind:.1} s behind", self.begun.elapsed());
        if let Disturbance::Lag(lag) = what {
            let is_long = lag > Duration::from_secs(HISTORY.unsigned_abs().into());
            self.history = if is_long { HISTORY } else { HISTORY_SHORT };
            keep_history(&self.mongo, self.history).await;
        }
        let Self { world, mongo, rng, history, .. } = self;
        Scene { world, mongo, history: *history, rng }.disturb(what, daemon).await
    }

    /// The source falls quiet: all of it is exact, and equal.
    async fn settle(
        &self,
        daemon: &Daemon,
        moving: CancellationToken,
        movers: Vec<tokio::task::JoinHandle<u64>>,
    ) -> u64 {
        // A repair of one table is no reason for the others to be inexact for ever, nor is a writer
        // that does not rest; but what minutes without a daemon left behind takes minutes.
        let (mut pg, begun) = (self.world.pg().await, Instant::now());
        while !look(&mut pg).await.unwrap().is_exact {
            assert!(begun.elapsed() < PATIENCE, "never exact again\n{}", self.world.logs());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("exact {:.1?} after the last of it", begun.elapsed());
        tokio::time::sleep(Duration::from_secs(3)).await;
        moving.cancel();
        let mut moved = 0;
        for mover in movers {
            moved += mover.await.unwrap();
        }
        for name in ACCOUNTS {
            self.world.until_equal(name, &format!("public.{name}")).await;
            daemon.until_phase(name, "streaming").await;
        }
        moved
    }
}

impl Outcome {
    /// Of the tables as they went on: their moments are others.
    fn add(&mut self, later: Self) {
        let moments = self.seen.moments + later.seen.moments;
        self.moved += later.moved;
        self.seen.add(later.seen);
        self.seen.moments = moments;
        self.compared.tables += later.compared.tables;
    }

    fn assert_right(&self) {
        let Self { seen, compared, .. } = self;
        assert!(seen.wrong.is_empty(), "{} wrong: {:?}", seen.wrong.len(), seen.wrong.first());
        let unlike = &compared.unlike;
        assert!(unlike.is_empty(), "{} unlike: {:?}", unlike.len(), unlike.first());
    }
}

/// With a kill, a resync, an election and a lag, in half a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_snapshot_that_says_it_is_exact_ever_shows_a_wrong_sum() {
    let short = [
        Disturbance::Resync,
        Disturbance::Kill,
        Disturbance::StepDown,
        Disturbance::Lag(Duration::from_secs(10)),
        Disturbance::DieAtCommit,
    ];
    let mut cut = Cut::new().await;
    cut.run_until(&short, Outcome::default(), |Outcome { moved, seen, compared }| {
        *moved > 300 && seen.moments > 50 && compared.tables > 50
    })
    .await;
}

/// Of a source that neither reads at one cluster time nor names the time of its reads, as Amazon
/// DocumentDB: while it changes the tables are never said to be exact, and soon after they are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_one_of_a_source_that_names_no_time_of_its_reads() {
    let short = [Disturbance::Resync, Disturbance::Kill, Disturbance::Resync];
    let mongo = Mongo::start(&MongoOptions::default()).unwrap();
    let documentdb = DocumentDb::before(mongo.port(), Engine::default()).unwrap();
    let mut cut = Cut { pace: Pace::WithRests, ..Cut::of(mongo, &documentdb.uri()).await };
    cut.run_until(&short, Outcome::default(), |Outcome { moved, seen, compared }| {
        let is_enough = *moved > 50 && seen.exact > 100 && seen.moments > 3;
        // Some mixture of two states was seen, and said to be one.
        is_enough && compared.tables > 9 && seen.wrong_and_said_so > 0
    })
    .await;
}

/// The same and everything else for `TIDEMARK_CUT_MINUTES` (5); from ten minutes on with a lag of
/// more than the five minutes that a source keeps by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `cargo test --test it cut:: -- --ignored --nocapture`"]
async fn nor_does_one_for_minutes_with_everything_going_on() {
    let minutes: u64 =
        std::env::var("TIDEMARK_CUT_MINUTES").map_or(5, |text| text.parse().unwrap());
    let (end, mut lags) = (Duration::from_secs(60 * minutes), minutes >= 10);
    let long = Duration::from_secs(u64::from(HISTORY.unsigned_abs()) + 30);
    let mut cut = Cut::new().await;
    let outcome = cut
        .run(|turn, gone| {
            if turn == ALL.len() && std::mem::take(&mut lags) {
                return Some(Disturbance::Lag(long));
            }
            (turn < ALL.len() || gone < end).then(|| ALL[turn % ALL.len()])
        })
        .await;
    outcome.assert_right();
    cut.run_until(&ALL, outcome, |Outcome { moved, seen, compared }| {
        let is_enough = *moved > 3_000 && compared.tables > 1_000;
        // Some mixture of two states was seen, and said to be one.
        is_enough && seen.wrong_and_said_so > 0
    })
    .await;
}
