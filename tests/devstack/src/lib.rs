//! Throwaway real servers for tests, the demo and benches: found on the machine or fetched as
//! packages, started on free loopback ports, ended by process id even when a test panics or is
//! killed; and ways to break them on purpose.
//!
//! Nothing here is part of the product. A server that cannot be had is an error with its remedy,
//! never a skip.

mod authority;
mod binaries;
mod collector;
mod compare;
mod documentdb;
mod failover;
mod fakes;
mod mongo;
mod pgbouncer;
mod postgres;
mod process;
mod proxy;
pub mod revalidation;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub use authority::{Authority, Certificate};
pub use collector::{Collector, HEADERS as COLLECTOR_HEADERS};
pub use compare::{Comparison, compare, plain_json};
pub use documentdb::{AccessKey, DocumentDb, Engine};
pub use failover::Failover;
pub use fakes::{Behaviour, Delivered, Fakes, Message, RECEIVER_SECRET};
pub use mongo::{Mongo, MongoOptions};
pub use pgbouncer::PgBouncer;
pub use postgres::{Postgres, PostgresOptions};
pub use process::{Guarded, signal};
pub use proxy::{Mode, Proxy};

pub type Error = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Error>;

/// One mongod and one Postgres for a whole test run; each test has a database of its own on them.
pub struct Stack {
    pub mongo: Mongo,
    pub postgres: Postgres,
}

impl Stack {
    pub fn start() -> Result<Self> {
        let mongo = std::thread::spawn(|| Mongo::start(&MongoOptions::default()));
        let postgres = Postgres::start(&PostgresOptions::default())?;
        let mongo = mongo.join().map_err(|_| "the thread that starts mongod panicked")??;
        Ok(Self { mongo, postgres })
    }

    /// The servers of this process, started when first asked for.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Stack> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|error| panic!("test servers: {error}")))
    }
}

/// A name no other test of this process uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A loopback port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
