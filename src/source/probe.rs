//! What the source is: asked by `check`, and by the supervisor to know that it answers.

use std::sync::atomic::Ordering;

use mongodb::bson::{Bson, doc};

use super::{DEADLINE, Source};
use crate::error::{Class, Code, Fault};

/// The wire version of MongoDB 8.0.
const WIRE_8_0: i32 = 25;

/// What `check` reports of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    pub version: String,
    /// The replica set's name.
    pub replica_set: String,
}

impl Source {
    /// Asks the server what it is.
    ///
    /// # Errors
    /// It cannot be reached, is a standalone, which has no change streams, or sharded.
    pub async fn facts(&self) -> Result<ServerFacts, Fault> {
        let database = self.database().await?;
        let hello = self
            .with_deadline(DEADLINE, async { database.run_command(doc! { "hello": 1 }).await })
            .await?;
        self.causal.store(hello.contains_key("operationTime"), Ordering::Relaxed);
        let shares_times = hello.get_i32("maxWireVersion").is_ok_and(|wire| wire >= WIRE_8_0);
        self.shares_times.store(shares_times, Ordering::Relaxed);
        let build = self
            .with_deadline(DEADLINE, async { database.run_command(doc! { "buildInfo": 1 }).await })
            .await?;
        let replica_set = match (hello.get_str("setName"), hello.get_str("msg")) {
            (Ok(name), _) => name.to_owned(),
            (_, Ok("isdbgrid")) => {
                let message =
                    "the source is a sharded cluster (mongos), whose events have no one order";
                let hint = "sharded sources are not supported yet: follow a replica set";
                return Err(Fault::new(Class::Halt, Code::SourceMisconfigured, message, hint));
            }
            _ => {
                let hint =
                    "start mongod with --replSet and run rs.initiate(): one member is enough";
                let message = "the source is a standalone server, which has no change streams";
                return Err(Fault::new(Class::Halt, Code::SourceMisconfigured, message, hint));
            }
        };
        Ok(ServerFacts {
            version: build.get_str("version").unwrap_or("unknown").to_owned(),
            replica_set,
        })
    }

    /// How many connections the server has, of everybody, and how many more it takes; `None` where
    /// the user may not ask (role `clusterMonitor`).
    pub async fn connections(&self) -> Result<Option<(u64, u64)>, Fault> {
        let admin = self.client().await?.database("admin");
        let call = async { admin.run_command(doc! { "serverStatus": 1 }).await };
        let reply = match self.with_deadline(DEADLINE, call).await {
            Ok(reply) => reply,
            Err(fault) if fault.class.may_retry() => return Err(fault),
            Err(_) => return Ok(None),
        };
        let number = |name| match reply.get_document("connections").ok()?.get(name)? {
            Bson::Int32(n) => u64::try_from(*n).ok(),
            Bson::Int64(n) => u64::try_from(*n).ok(),
            _ => None,
        };
        Ok(number("current").zip(number("available")))
    }

    /// How many connections tidemark opens to a server at most; `None` if there is no limit.
    pub async fn connections_max(&self) -> Option<u32> {
        self.reach.pool_size().await
    }

    /// A collection's document count by its metadata: quick, and only an estimate.
    pub async fn estimate(&self, collection: &str) -> Result<u64, Fault> {
        let command = doc! { "count": collection };
        let database = self.database().await?;
        let reply =
            self.with_deadline(DEADLINE, async { database.run_command(command).await }).await?;
        let number = match reply.get("n") {
            Some(Bson::Int32(n)) => i64::from(*n),
            Some(Bson::Int64(n)) => *n,
            _ => 0,
        };
        Ok(u64::try_from(number).unwrap_or_default())
    }
}
