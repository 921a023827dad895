//! What a position speaks for at the source: which cluster this is, and which collection goes by a
//! name.
//!
//! A name proves nothing: another cluster has the same ones, and a collection dropped and made
//! again keeps its own.

use mongodb::bson::{Bson, Document, doc};
use uuid::Uuid;

use super::{DEADLINE, Source};
use crate::error::Fault;

/// What goes by a collection's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// A collection, with its UUID where the server tells it: it stays the same when the collection
    /// is renamed, and no other ever has it.
    Collection(Option<Uuid>),
    View,
    TimeSeries,
}

impl Found {
    /// The UUID of what is there, if it is a collection and the server tells it.
    pub const fn uuid(self) -> Option<Uuid> {
        match self {
            Self::Collection(uuid) => uuid,
            Self::Nothing | Self::View | Self::TimeSeries => None,
        }
    }
}

impl Source {
    /// What goes by this name now.
    pub async fn find_collection(&self, name: &str) -> Result<Found, Fault> {
        let command = doc! { "listCollections": 1, "filter": { "name": name } };
        let database = self.database().await?;
        let call = async { database.run_command(command).await };
        let reply = self.with_deadline(DEADLINE, call).await?;
        let listed = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let entry = listed.ok().and_then(|list| list.first()).and_then(Bson::as_document);
        Ok(entry.map_or(Found::Nothing, found))
    }

    /// The id that the replica set was given when it was initiated, as hex. A copy of its data in
    /// another set has another id. `None` where it may not be read (no `find` on
    /// `local.system.replset`) or there is none (`DocumentDB`).
    pub async fn cluster(&self) -> Result<Option<String>, Fault> {
        let sets = self.client().await?.database("local").collection::<Document>("system.replset");
        match self.with_deadline(DEADLINE, async { sets.find_one(doc! {}).await }).await {
            Ok(found) => Ok(found.as_ref().and_then(replica_set_id)),
            Err(fault) if fault.class.may_retry() => Err(fault),
            Err(_) => Ok(None),
        }
    }
}

pub(super) fn found(entry: &Document) -> Found {
    match entry.get_str("type") {
        Ok("view") => Found::View,
        Ok("timeseries") => Found::TimeSeries,
        _ => {
            let uuid = entry.get_document("info").ok().and_then(|info| info.get("uuid"));
            Found::Collection(match uuid {
                Some(Bson::Binary(binary)) => Uuid::from_slice(&binary.bytes).ok(),
                _ => None,
            })
        }
    }
}

fn replica_set_id(set: &Document) -> Option<String> {
    let id = set.get_document("settings").ok()?.get_object_id("replicaSetId").ok()?;
    Some(id.to_hex())
}
