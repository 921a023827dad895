//! What the source is: asked by `check`, and by the supervisor to know that it answers.

use mongodb::bson::{Bson, doc};

use super::{DEADLINE, Source, within};
use crate::error::{Class, Code, Fault};

/// How the server is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaSet {
    /// A replica set, by name.
    Named(String),
    /// A sharded cluster.
    Sharded,
}

/// What `check` reports of the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub version: String,
    pub replica_set: ReplicaSet,
}

impl Source {
    /// Asks the server what it is.
    ///
    /// # Errors
    /// It cannot be reached, or is a standalone, which has no change streams.
    pub async fn facts(&self) -> Result<Facts, Fault> {
        let hello = within(DEADLINE, async { self.database.run_command(doc! { "hello": 1 }).await }).await?;
        let build = within(DEADLINE, async { self.database.run_command(doc! { "buildInfo": 1 }).await }).await?;
        let replica_set = match (hello.get_str("setName"), hello.get_str("msg")) {
            (Ok(name), _) => ReplicaSet::Named(name.to_owned()),
            (_, Ok("isdbgrid")) => ReplicaSet::Sharded,
            _ => {
                let hint = "start mongod with --replSet and run rs.initiate(): one member is enough";
                let message = "the source is a standalone server, which has no change streams";
                return Err(Fault::new(Class::Halt, Code::SourceMisconfigured, message, hint));
            }
        };
        Ok(Facts { version: build.get_str("version").unwrap_or("unknown").to_owned(), replica_set })
    }

    /// A collection's document count by its metadata: quick, and only an estimate.
    ///
    /// # Errors
    /// Whatever the server answers, classified.
    pub async fn estimate(&self, collection: &str) -> Result<u64, Fault> {
        let command = doc! { "count": collection };
        let reply = within(DEADLINE, async { self.database.run_command(command).await }).await?;
        let number = match reply.get("n") {
            Some(Bson::Int32(n)) => i64::from(*n),
            Some(Bson::Int64(n)) => *n,
            _ => 0,
        };
        Ok(u64::try_from(number).unwrap_or_default())
    }
}
