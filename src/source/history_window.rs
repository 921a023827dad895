//! Reads how far back the source's history reaches.

use std::sync::atomic::Ordering;
use std::time::Duration;

use mongodb::bson::{Document, Timestamp, doc};
use mongodb::options::{ReadPreference, SelectionCriteria};

use super::{DEADLINE, Source};
use crate::error::{Class, Code, Fault};
use crate::model::history_window::HistoryWindow;
use crate::model::position::ClusterTime;

/// Members' clocks may differ by this much, and an event's time may lag behind its server's clock.
const CLOCK_MARGIN_SECONDS: i64 = 2;

/// Oplogs of two members differ in what they begin with and in what they have yet: the one that
/// change streams are read from is asked.
const PRIMARY: SelectionCriteria = SelectionCriteria::ReadPreference(ReadPreference::Primary);

/// What the oplog has at a time at which it once had an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    There,
    /// The oplog has entries before and after that time, and none at it: the source was taken back,
    /// or is another one.
    Gone {
        at: ClusterTime,
        next: ClusterTime,
    },
}

impl Source {
    /// The history window as it is now. The oplog is read where the user may; configuration answers
    /// otherwise.
    ///
    /// # Errors
    /// The source cannot be asked the time.
    pub async fn history_window(
        &self,
        configured: Option<Duration>,
    ) -> Result<HistoryWindow, Fault> {
        let now = self.now().await?;
        Ok(HistoryWindow::new(now, self.oldest_entry().await, configured))
    }

    /// The source's operation time. Where the server does not tell it, a time that is surely past
    /// on the server's own clock: what is stamped with it never wins over an event that comes
    /// later.
    ///
    /// # Errors
    /// The source cannot be asked.
    pub async fn now(&self) -> Result<ClusterTime, Fault> {
        let database = self.database().await?;
        let reply = self
            .with_deadline(DEADLINE, async { database.run_command(doc! { "ping": 1 }).await })
            .await?;
        let operation_time = time(&reply, "operationTime");
        self.causal.store(operation_time.is_some(), Ordering::Relaxed);
        if let Some(operation_time) = operation_time {
            return Ok(operation_time);
        }
        let seconds = self.clock_seconds().await? - CLOCK_MARGIN_SECONDS;
        Ok(ClusterTime::new(u64::try_from(seconds).unwrap_or_default() << 32))
    }

    /// A time that nothing read by now can be later than: `told`, of a server that names the time
    /// of its reads; else by the server's own clock.
    ///
    /// # Errors
    /// The source cannot be asked.
    pub async fn read_until(&self, told: Option<ClusterTime>) -> Result<ClusterTime, Fault> {
        if let Some(told) = told {
            return Ok(told);
        }
        let seconds = self.clock_seconds().await? + CLOCK_MARGIN_SECONDS;
        Ok(ClusterTime::new(u64::try_from(seconds).unwrap_or_default() << 32))
    }

    async fn clock_seconds(&self) -> Result<i64, Fault> {
        let database = self.database().await?;
        let hello = self
            .with_deadline(DEADLINE, async { database.run_command(doc! { "hello": 1 }).await })
            .await?;
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
        Ok(clock.timestamp_millis() / 1000)
    }

    /// Whether the oplog still has the entry at exactly this time, at which it must once have had
    /// one. `None` where that cannot be known, because the oplog may not be read or does not reach
    /// back so far.
    pub async fn entry_at(&self, at: ClusterTime) -> Result<Option<Entry>, Fault> {
        match self.asked_oldest_entry().await? {
            Some(oldest) if oldest <= at => {}
            _ => return Ok(None),
        }
        let oplog = self.client().await?.database("local").collection::<Document>("oplog.rs");
        let from =
            doc! { "ts": { "$gte": Timestamp { time: at.seconds(), increment: at.increment() } } };
        let find = async {
            let find =
                oplog.find_one(from).sort(doc! { "$natural": 1 }).projection(doc! { "ts": 1 });
            find.selection_criteria(PRIMARY).await
        };
        let found = match self.with_deadline(DEADLINE, find).await {
            Ok(found) => found,
            Err(fault) if fault.class.may_retry() => return Err(fault),
            Err(_) => return Ok(None),
        };
        // A member that lags has nothing yet, and neither has a set taken back before its first
        // write.
        let Some(entry) = found else {
            let message = "the source has not come to the position's time yet";
            return Err(Fault::new(Class::Transient, Code::SourceUnreachable, message, ""));
        };
        let next = time(&entry, "ts").unwrap_or_default();
        if next == at {
            return Ok(Some(Entry::There));
        }
        // The entry may have been the oldest, and have gone just now.
        let still = self.asked_oldest_entry().await?.is_some_and(|oldest| oldest <= at);
        Ok(still.then_some(Entry::Gone { at, next }))
    }

    /// The time of the oldest oplog entry; `None` where it is not to be had (no privilege, a
    /// mongos, `DocumentDB`, no answer).
    pub async fn oldest_entry(&self) -> Option<ClusterTime> {
        self.asked_oldest_entry().await.ok().flatten()
    }

    /// The same, but a source that is away is an error, and not `None` as one that cannot tell:
    /// what is concluded from the answer is concluded once and not looked at again.
    async fn asked_oldest_entry(&self) -> Result<Option<ClusterTime>, Fault> {
        let oplog = self.client().await?.database("local").collection::<Document>("oplog.rs");
        let find = async {
            let find =
                oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).projection(doc! { "ts": 1 });
            find.selection_criteria(PRIMARY).await
        };
        match self.with_deadline(DEADLINE, find).await {
            Ok(oldest) => Ok(oldest.as_ref().and_then(|entry| time(entry, "ts"))),
            Err(fault) if fault.class.may_retry() => Err(fault),
            Err(_) => Ok(None),
        }
    }
}

fn time(document: &Document, field: &str) -> Option<ClusterTime> {
    let Timestamp { time, increment } = document.get_timestamp(field).ok()?;
    Some(ClusterTime::new(u64::from(time) << 32 | u64::from(increment)))
}
