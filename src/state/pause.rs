//! Streams that a person told to stop for a while: until when, by whom, and why. Its statements are
//! those of the table `stream`. A paused stream is parked, too, for all who ask no more than that.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{StateTables, StreamRow, checkpoint, stream, stream_row};
use crate::error::{Code, Fault};
use crate::model::phase::Phase;
use crate::postgres::with_deadline;

/// A stop for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub until: DateTime<Utc>,
    pub by: String,
    pub reason: String,
}

impl std::fmt::Display for Pause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = self.until.format("%Y-%m-%d %H:%M:%S UTC");
        write!(f, "paused until {until} by {}: {}", self.by, self.reason)
    }
}

impl Pause {
    /// Why nothing else is done about the stream.
    pub fn in_the_way(&self) -> String {
        format!("the stream is {self}; `tidemark resume` ends that, with a resync of its table")
    }
}

impl StreamRow {
    /// That the group goes on without the stream, and why: what its table lacks meanwhile is
    /// repaired as a whole.
    pub fn left_out(&self) -> Option<String> {
        if let Some(pause) = self.pause() {
            return Some(pause.to_string());
        }
        self.parked_code.as_ref()?;
        Some(format!("parked: {}", self.parked_reason.as_deref().unwrap_or_default()))
    }

    /// The stop that it was told, in force or just over: what was missed is not yet being repaired.
    pub fn pause(&self) -> Option<Pause> {
        let told = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(Pause {
            until: self.paused_until?,
            by: told(&self.paused_by),
            reason: told(&self.paused_reason),
        })
    }

    /// The same, while it is in force.
    pub fn pause_in_force(&self) -> Option<Pause> {
        self.pause().filter(|_| self.is_paused)
    }
}

impl StateTables {
    /// Pauses a stream, or changes until when it is. What parked it before goes on to. In the
    /// caller's fenced transaction.
    pub(super) async fn pause(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        pause: &Pause,
    ) -> Result<(), Fault> {
        let since = stream_row::missed_since(&checkpoint::time_of(&self.schema, "s"));
        let (code, paused) = (Code::StreamParked, Phase::Paused);
        let sql = AssertSqlSafe(format!(
            "{} set paused_until = $2, paused_by = $3, paused_reason = $4, parked_code = \
             coalesce(parked_code, '{code}'), parked_reason = case when parked_code is null or \
             paused_until is not null and parked_code = '{code}' then $5 else parked_reason end, \
             blind_from = {since}, phase = '{paused}', phase_since = case when phase = '{paused}' \
             then phase_since else now() end where stream = $1",
            stream::changing(&self.schema)
        ));
        let query = sqlx::query(sql)
            .bind(stream)
            .bind(pause.until)
            .bind(&pause.by)
            .bind(&pause.reason)
            .bind(pause.to_string());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Ends a stream's pause now: it is repaired as soon as it is taken up. `false`: it is not
    /// paused. In the caller's fenced transaction.
    pub(super) async fn resume(
        &self,
        connection: &mut PgConnection,
        stream: &str,
    ) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!(
            "{} set paused_until = now() where stream = $1 and paused_until > now()",
            stream::changing(&self.schema)
        ));
        let ended = with_deadline(self.deadline, sqlx::query(sql).bind(stream).execute(connection));
        Ok(ended.await?.rows_affected() == 1)
    }
}
