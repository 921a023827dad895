//! The table `lease`: who works on a stream. A lease only says who should; whether a writer still
//! may is decided by the fence, inside each transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Connection, FromRow};
use uuid::Uuid;

use super::{StateTables, checkpoint, command, stream};
use crate::error::Fault;
use crate::model::phase::Phase;
use crate::postgres::with_deadline;

/// A grant. Made only by [`StateTables::acquire`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    stream: String,
    epoch: i64,
    nonce: Uuid,
}

impl Lease {
    pub fn stream(&self) -> &str {
        &self.stream
    }

    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    pub(super) const fn nonce(&self) -> Uuid {
        self.nonce
    }
}

/// Who holds a stream, as the table says.
#[derive(Debug, Clone, FromRow)]
pub struct LeaseRow {
    pub stream: String,
    pub holder: Option<String>,
    pub epoch: i64,
    pub expires_at: DateTime<Utc>,
    /// On the database's clock.
    pub live: bool,
    /// Whether the stream is bound to this service and environment. One that is led for the first
    /// time is nobody's yet.
    pub bound: bool,
    pub report: Option<serde_json::Value>,
}

/// What became of a lease that was to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    Kept,
    /// The lease is kept, and a request for the stream waits whose turn it is.
    Commanded,
    /// No longer ours.
    Lost,
}

impl StateTables {
    /// Takes a stream whose lease has run out or was given back; `None` while another holds it.
    /// Raising the epoch waits for whatever transaction of the old holder is still open, unless its
    /// client is silent.
    ///
    /// # Errors
    /// It is another service's or environment's; a lock not had within the lease's length is
    /// transient.
    pub async fn acquire(
        &self,
        stream: &str,
        source: &str,
        options: &str,
        holder: &str,
        duration: Duration,
    ) -> Result<Option<Lease>, Fault> {
        let (schema, deadline) = (&self.schema, self.deadline);
        let nonce = Uuid::new_v4();
        let mut connection = with_deadline(deadline, self.pool.acquire()).await?;
        self.target.end_abandoned(&mut connection).await;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        self.refuse_strangers(&mut transaction, &[stream]).await?;
        let insert = AssertSqlSafe(format!(
            "insert into {schema}.lease (stream) values ($1) on conflict do nothing"
        ));
        with_deadline(deadline, sqlx::query(insert).bind(stream).execute(&mut *transaction))
            .await?;
        let epoch = checkpoint::epoch_of(schema, "l.stream");
        let grant = AssertSqlSafe(format!(
            "update {schema}.lease as l set holder = $2, nonce = $3, granted_at = \
             clock_timestamp(), epoch = greatest(l.epoch, coalesce({epoch}, 0)) + 1, expires_at = \
             clock_timestamp() + make_interval(secs => $4) where stream = $1 and expires_at <= \
             clock_timestamp() returning epoch"
        ));
        let grant = sqlx::query_scalar::<_, i64>(grant)
            .bind(stream)
            .bind(holder)
            .bind(nonce)
            .bind(duration.as_secs_f64());
        let Some(epoch) = with_deadline(deadline, grant.fetch_optional(&mut *transaction)).await?
        else {
            with_deadline(deadline, transaction.rollback()).await?;
            connection.give_back();
            return Ok(None);
        };
        let raise = sqlx::query(AssertSqlSafe(checkpoint::granting(schema)));
        let raise = raise.bind(stream).bind(source).bind(options).bind(epoch).bind(nonce);
        with_deadline(deadline, raise.execute(&mut *transaction)).await?;
        with_deadline(deadline, transaction.commit()).await?;
        connection.give_back();
        Ok(Some(Lease { stream: stream.to_owned(), epoch, nonce }))
    }

    /// Renews a lease and leaves a report for those who ask the database.
    pub async fn renew(
        &self,
        lease: &Lease,
        duration: Duration,
        report: &serde_json::Value,
    ) -> Result<Renewed, Fault> {
        let (schema, is_due) = (&self.schema, command::is_due(&self.schema));
        let sql = AssertSqlSafe(format!(
            "update {schema}.lease set expires_at = clock_timestamp() + make_interval(secs => $4), \
             report = $5 where {HELD} returning {is_due}"
        ));
        let query = sqlx::query_scalar::<_, bool>(sql)
            .bind(&lease.stream)
            .bind(lease.epoch)
            .bind(lease.nonce)
            .bind(duration.as_secs_f64())
            .bind(report);
        // Half the lease's length at most, so that a wire cut in silence leaves time to try again
        // before the lease has run out.
        Ok(match with_deadline(duration / 2, query.fetch_optional(&self.pool)).await? {
            None => Renewed::Lost,
            Some(false) => Renewed::Kept,
            Some(true) => Renewed::Commanded,
        })
    }

    /// Gives a lease back, so that another may take the stream at once, and leaves it a last
    /// report.
    pub async fn release(&self, lease: &Lease, report: &serde_json::Value) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.lease set expires_at = '-infinity', holder = null, report = $4 \
             where {HELD}",
            self.schema
        ));
        let query =
            sqlx::query(sql).bind(&lease.stream).bind(lease.epoch).bind(lease.nonce).bind(report);
        with_deadline(Duration::from_secs(3), query.execute(&self.pool)).await.map(drop)
    }

    /// Who holds what of this service's and environment's streams, and of those that are nobody's
    /// yet.
    pub async fn leases(&self) -> Result<Vec<LeaseRow>, Fault> {
        let schema = &self.schema;
        let bound = stream::is_bound(schema, "l.stream");
        let visible = stream::is_not_anothers(schema, "l.stream", 1);
        let sql = AssertSqlSafe(format!(
            "select l.stream, holder, epoch, greatest(expires_at, 'epoch'::timestamptz) as \
             expires_at, expires_at > clock_timestamp() as live, {bound} as bound, report from \
             {schema}.lease as l where {visible} order by l.stream"
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// Writes down a stream's phase, for those who ask the database. Only under the lease.
    pub async fn note_phase(
        &self,
        lease: &Lease,
        phase: Phase,
        halt: Option<(&str, &str)>,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(checkpoint::noting_phase(&self.schema));
        let query = sqlx::query(sql)
            .bind(&lease.stream)
            .bind(lease.epoch)
            .bind(lease.nonce)
            .bind(phase.name())
            .bind(halt.map(|(code, _)| code))
            .bind(halt.map(|(_, reason)| reason));
        with_deadline(Duration::from_secs(5), query.execute(&self.pool)).await.map(drop)
    }
}

/// The row of a lease that is kept: three parameters from the first on.
const HELD: &str = "stream = $1 and epoch = $2 and nonce = $3";

/// Whether a lease is kept: stream, epoch and nonce are three parameters from the `first` on.
pub(super) fn is_kept(schema: &str, first: usize) -> String {
    format!(
        "exists (select from {schema}.lease where stream = ${first} and epoch = ${} and nonce = \
         ${})",
        first + 1,
        first + 2
    )
}
