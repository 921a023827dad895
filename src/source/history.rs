//! Reads how far back the source's history reaches.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mongodb::bson::{Document, Timestamp, doc};

use super::{DEADLINE, Source, within};
use crate::error::{Class, Code, Fault};
use crate::model::horizon::Horizon;
use crate::model::position::ClusterTime;

/// Members' clocks may differ by this much, and an event's time may lag behind its server's clock.
const CLOCK_MARGIN_SECONDS: i64 = 2;

impl Source {
    /// The horizon as it is now. The oplog is read where the user may; configuration answers otherwise.
    ///
    /// # Errors
    /// The source cannot be asked the time.
    pub async fn horizon(&self, configured: Option<Duration>) -> Result<Horizon, Fault> {
        let now = self.now().await?;
        Ok(Horizon::new(now, self.oldest_entry().await, configured))
    }

    /// The source's operation time. Where the server does not tell it, a time that is surely past on the server's own
    /// clock: what is stamped with it never wins over an event that comes later.
    ///
    /// # Errors
    /// The source cannot be asked.
    pub async fn now(&self) -> Result<ClusterTime, Fault> {
        let reply = within(DEADLINE, async { self.database.run_command(doc! { "ping": 1 }).await }).await?;
        let operation_time = time(&reply, "operationTime");
        self.causal.store(operation_time.is_some(), Ordering::Relaxed);
        if let Some(operation_time) = operation_time {
            return Ok(operation_time);
        }
        let hello = within(DEADLINE, async { self.database.run_command(doc! { "hello": 1 }).await }).await?;
        let silent = || {
            let message = "the source tells neither its operation time nor its clock";
            Fault::new(
                Class::Halt,
                Code::SourceMisconfigured,
                message,
                "MongoDB 4.0.7 or Amazon DocumentDB 4.0 is needed",
            )
        };
        let clock = hello.get_datetime("localTime").map_err(|_| silent())?;
        let seconds = clock.timestamp_millis() / 1000 - CLOCK_MARGIN_SECONDS;
        Ok(ClusterTime::new(u64::try_from(seconds).unwrap_or_default() << 32))
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
