//! Reads how far back the source's history reaches.

use std::time::Duration;

use mongodb::bson::{Document, Timestamp, doc};

use super::{DEADLINE, Source, within};
use crate::error::Fault;
use crate::model::horizon::Horizon;
use crate::model::position::ClusterTime;

impl Source {
    /// The horizon as it is now. The oplog is read where the user may; configuration answers otherwise.
    ///
    /// # Errors
    /// The source cannot be asked the time.
    pub async fn horizon(&self, configured: Option<Duration>) -> Result<Horizon, Fault> {
        let now = self.now().await?;
        Ok(Horizon::new(now, self.oldest_entry().await, configured))
    }

    /// The source's operation time; the wall clock's where the server does not tell.
    ///
    /// # Errors
    /// The source cannot be asked.
    pub async fn now(&self) -> Result<ClusterTime, Fault> {
        let reply = within(DEADLINE, async { self.database.run_command(doc! { "ping": 1 }).await }).await?;
        Ok(time(&reply, "operationTime").unwrap_or_else(wall_clock))
    }

    /// The time of the oldest oplog entry; `None` where it may not be read (no privilege, a mongos, `DocumentDB`).
    pub async fn oldest_entry(&self) -> Option<ClusterTime> {
        let oplog = self.client.database("local").collection::<Document>("oplog.rs");
        let find = async { oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).projection(doc! { "ts": 1 }).await };
        let oldest = within(DEADLINE, find).await.ok()??;
        time(&oldest, "ts")
    }
}

fn time(document: &Document, field: &str) -> Option<ClusterTime> {
    let Timestamp { time, increment } = document.get_timestamp(field).ok()?;
    Some(ClusterTime::new(u64::from(time) << 32 | u64::from(increment)))
}

/// For servers that do not tell their time.
fn wall_clock() -> ClusterTime {
    ClusterTime::new(u64::try_from(chrono::Utc::now().timestamp()).unwrap_or_default() << 32)
}
