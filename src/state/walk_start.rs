//! How a walk begins: its row, the position it starts from and what that is bound to are one fenced
//! transaction, and the position before is archived in it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::{BoundTo, Fence, Lease, StateTables, resync};
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position};
use crate::model::reason::Reason;
use crate::postgres::with_deadline;

/// What a walk begins with.
#[derive(Debug, Clone)]
pub struct Beginning<'a> {
    pub reason: Reason,
    /// Why the position is retired, for people.
    pub why: &'a str,
    /// The position the live stream goes on from; `None` leaves the stored one.
    pub position: Option<&'a Position>,
    /// The cluster time of the position the stream goes on from.
    pub start_time: ClusterTime,
    pub blind_from: Option<DateTime<Utc>>,
    pub documents_estimated: Option<u64>,
    /// What position and walk speak for, found before the position was taken.
    pub bound: BoundTo<'a>,
    pub duration_max: Duration,
    /// What the position belongs to from now on.
    pub source: &'a str,
    pub options: &'a str,
}

impl StateTables {
    /// Begins a walk, in a transaction of its own. See [`StateTables::begin_walk_in`]. Returns the
    /// revision it made.
    ///
    /// # Errors
    /// Fenced, where another holds the stream.
    pub async fn begin_walk(&self, lease: &Lease, beginning: &Beginning<'_>) -> Result<i64, Fault> {
        let deadline = self.deadline;
        let mut connection = self.target.connect().await?;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        let fence = Fence::raise(&mut transaction, self, lease).await?;
        self.begin_walk_in(&mut transaction, &fence, lease, beginning).await?;
        with_deadline(deadline, transaction.commit()).await?;
        Ok(fence.revision() + 1)
    }

    /// The walk's row, the position it starts from and the archive of the one before are one
    /// transaction. A walk still open ends as failed: what it had repaired is carried over to the
    /// new one's report.
    ///
    /// # Errors
    /// Fenced, where another holds the stream.
    pub(super) async fn begin_walk_in(
        &self,
        connection: &mut PgConnection,
        fence: &Fence<'_>,
        lease: &Lease,
        beginning: &Beginning<'_>,
    ) -> Result<(), Fault> {
        if beginning.position.is_some() {
            self.retire_position(connection, lease.stream(), beginning.why).await?;
        }
        let reason = beginning.reason;
        let query = sqlx::query(AssertSqlSafe(resync::beginning(&self.schema)))
            .bind(lease.stream())
            .bind(reason.name())
            .bind(beginning.why)
            .bind(reason.is_counted())
            .bind(beginning.start_time.to_sql())
            .bind(beginning.blind_from)
            .bind(f64::from(beginning.start_time.seconds()))
            .bind(beginning.documents_estimated.and_then(|n| i64::try_from(n).ok()))
            .bind((reason != Reason::FirstSnapshot).then_some(beginning.duration_max.as_secs_f64()))
            .bind(beginning.bound.collection_uuid);
        with_deadline(self.deadline, query.execute(&mut *connection)).await?;
        self.bind_in(connection, lease.stream(), &beginning.bound, beginning.position).await?;
        if beginning.position.is_some() {
            let Beginning { source, options, .. } = beginning;
            self.position_belongs_to(connection, lease.stream(), source, options).await?;
        }
        fence.advance(connection, beginning.position).await
    }
}
