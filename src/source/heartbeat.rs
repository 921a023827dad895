//! The heartbeat document: keeps idle positions moving where the server sends no post-batch resume
//! token.
//!
//! Opt-in, because it writes; into a collection of its own, never a followed one.

use mongodb::bson::{DateTime, doc, serialize_to_bson};

use super::{DEADLINE, Source};
use crate::error::Fault;

impl Source {
    /// Writes the heartbeat document: one event that every stream opened with it sees, and that is
    /// no document's change.
    pub async fn beat(&self, collection: &str, service: &str) -> Result<(), Fault> {
        let set = doc! { "$set": { "at": DateTime::now() } };
        let update = doc! { "q": { "_id": service }, "u": set, "upsert": true };
        let mut command = doc! { "update": collection, "updates": [update] };
        let database = self.database().await?;
        // The driver applies the URI's write concern to no command that is run as it is, so it is
        // added here.
        if let Some(concern) =
            database.write_concern().and_then(|concern| serialize_to_bson(concern).ok())
        {
            command.insert("writeConcern", concern);
        }
        self.with_deadline(DEADLINE, async { database.run_command(command).await }).await.map(drop)
    }
}
