//! What comes in between.

use std::time::{Duration, Instant};

use devstack::Mongo;
use fastrand::Rng;
use mongodb::Client;
use mongodb::bson::doc;
use sqlx::Connection;

use super::accounts::ACCOUNTS;
use crate::support::{Daemon, World, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The daemon, with SIGKILL.
    Kill,
    /// The daemon dies between what it wrote and its commit, or between that and its answer.
    DieAtCommit,
    Resync,
    StepDown,
    /// The primary, with SIGKILL.
    KillPrimary,
    /// No daemon for longer than the source keeps its history: what is to be read of then is read
    /// as it is now.
    Lag(Duration),
    /// Answers are lost.
    CutSessions,
    /// Somebody locks a table until it is parked.
    Lock,
}

/// Where it happens.
pub struct Scene<'a> {
    pub world: &'a World,
    pub mongo: &'a mut Mongo,
    /// Of which the source keeps all it ever was, in seconds.
    pub history: i32,
    pub rng: &'a mut Rng,
}

impl Scene<'_> {
    /// Causes it; returns the daemon that goes on.
    pub async fn disturb(&mut self, what: Disturbance, daemon: Daemon) -> Daemon {
        let world = self.world;
        match what {
            Disturbance::Kill => {
                daemon.kill();
                return world.start();
            }
            Disturbance::DieAtCommit => return self.die_at_commit(daemon).await,
            Disturbance::Resync => {
                let name = ACCOUNTS[self.rng.usize(..3)];
                let asked = ["resync", name, "--reason", "the cut", "--execute"];
                let (code, told) = run(world, &asked);
                let is_under_way = told.contains("is under way already");
                assert!(code == Some(0) || is_under_way, "{told}");
            }
            Disturbance::StepDown => self.mongo.step_down().await.unwrap(),
            Disturbance::KillPrimary => self.kill_primary().await,
            Disturbance::Lag(lag) => {
                daemon.kill();
                tokio::time::sleep(lag).await;
                return world.start();
            }
            Disturbance::CutSessions => {
                let all = "select pg_terminate_backend(pid) from pg_stat_activity where datname = \
                           current_database() and application_name = 'tidemark'";
                world.execute(all).await;
            }
            Disturbance::Lock => self.lock(&daemon).await,
        }
        daemon
    }

    async fn die_at_commit(&mut self, daemon: Daemon) -> Daemon {
        let at = if self.rng.bool() { "before_commit" } else { "after_commit" };
        let failpoint = format!("apply.{at}=abort@{}", self.rng.u8(1..30));
        daemon.kill();
        let mut daemon = self.world.start_with(&[("TIDEMARK_FAILPOINT", &failpoint)]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while daemon.is_running() {
            assert!(Instant::now() < deadline, "{failpoint} was never passed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.world.start()
    }

    async fn kill_primary(&mut self) {
        let mut primary = None;
        for (place, host) in self.mongo.hosts().iter().enumerate() {
            let hello = admin(host).await.run_command(doc! { "hello": 1 }).await.unwrap();
            if hello.get_bool("isWritablePrimary").unwrap() {
                primary = Some(place);
            }
        }
        let Some(primary) = primary else { return };
        self.mongo.kill(primary).unwrap();
        self.mongo.wait_for_primary().await.unwrap();
        tokio::time::sleep(Duration::from_secs(self.rng.u64(0..3))).await;
        self.mongo.restart(primary).unwrap();
        keep_history(self.mongo, self.history).await;
    }

    /// Readers go on meanwhile.
    async fn lock(&mut self, daemon: &Daemon) {
        let name = ACCOUNTS[self.rng.usize(..3)];
        let mut pg = self.world.pg().await;
        let lock = format!("begin; lock table public.{name} in share row exclusive mode");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut pg).await.unwrap();
        daemon.until_phase(name, "parked").await;
        pg.close().await.unwrap();
    }
}

async fn admin(host: &str) -> mongodb::Database {
    let uri = format!("mongodb://{host}/?directConnection=true");
    Client::with_uri_str(uri).await.unwrap().database("admin")
}

/// How long every member keeps what it was. One that starts again has forgotten.
pub async fn keep_history(mongo: &Mongo, seconds: i32) {
    for host in mongo.hosts() {
        let set = doc! { "setParameter": 1, "minSnapshotHistoryWindowInSeconds": seconds };
        admin(&host).await.run_command(set).await.unwrap();
    }
}
