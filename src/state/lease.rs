//! The table `lease`: who works on a group. A lease only says who should; whether a writer still
//! may is decided by the fence, inside each transaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, FromRow};
use uuid::Uuid;

use super::{Configured, Lease, StateTables, checkpoint, command, stream};
use crate::error::Fault;
use crate::postgres::with_deadline;

/// Who holds a group, as the table says.
#[derive(Debug, Clone, FromRow)]
pub struct LeaseRow {
    pub group: String,
    pub holder: Option<String>,
    pub epoch: i64,
    /// On the database's clock.
    pub live: bool,
}

/// Who leads a stream, and what its leader last said of it.
#[derive(Debug, Clone, FromRow)]
pub struct LedStream {
    pub stream: String,
    /// `None` if it is in no group: it is not followed any more, or not yet by this release.
    pub group: Option<String>,
    pub holder: Option<String>,
    pub epoch: i64,
    pub expires_at: DateTime<Utc>,
    /// Whether the lease of its group is live, on the database's clock.
    pub live: bool,
    pub report: Option<serde_json::Value>,
    pub group_report: Option<serde_json::Value>,
}

/// A group to be led.
#[derive(Debug, Clone, Copy)]
pub struct Candidacy<'a> {
    pub group: &'a str,
    pub database: &'a str,
    /// Of its change stream.
    pub options: &'a str,
    pub configured: Configured<'a>,
    /// Host and process, for people.
    pub holder: &'a str,
    pub duration: Duration,
}

/// A lease to be renewed, and what its holder says of the group if that has changed.
#[derive(Debug, Clone)]
pub struct Renewal {
    pub lease: Lease,
    pub report: Option<serde_json::Value>,
}

/// What became of a lease that was to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    Kept {
        /// A request for one of its streams waits whose turn it is.
        commanded: bool,
        /// A process that leads fewer groups asks for it.
        wanted: bool,
        /// Somebody waits for its position.
        hurried: bool,
    },
    /// No longer ours.
    Lost,
}

/// For so long it counts that something was asked of a lease: longer than between two renewals.
const ASKED_SECONDS: u32 = 3;

impl StateTables {
    /// Takes a group whose lease has run out or was given back; `None` while another holds it.
    /// Raising the epoch waits for whatever transaction of the old holder is still open, unless its
    /// client is silent.
    ///
    /// # Errors
    /// One of its streams is another service's or environment's; a lock not had within the lease's
    /// length is transient.
    pub async fn acquire(&self, candidacy: &Candidacy<'_>) -> Result<Option<Lease>, Fault> {
        let (schema, deadline, owner) = (&self.schema, self.deadline, self.target.owner());
        let Candidacy { group, database, options, configured, holder, duration } = *candidacy;
        let nonce = Uuid::new_v4();
        let names: Vec<&str> = configured.members.iter().map(|member| member.stream).collect();
        let mut connection = with_deadline(deadline, self.pool.acquire()).await?;
        self.target.end_abandoned(&mut connection).await;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        self.refuse_strangers(&mut transaction, &names).await?;
        let insert = AssertSqlSafe(format!(
            "insert into {schema}.lease (\"group\", service, environment) values ($1, $2, $3) on \
             conflict do nothing"
        ));
        let insert = sqlx::query(insert).bind(group).bind(&owner.service).bind(&owner.environment);
        with_deadline(deadline, insert.execute(&mut *transaction)).await?;
        self.lock_for_enrolment(&mut transaction, group, database, &configured).await?;
        let epoch = checkpoint::epoch_of(schema);
        let grant = AssertSqlSafe(format!(
            "update {schema}.lease as l set holder = $4, nonce = $5, granted_at = \
             clock_timestamp(), epoch = greatest(l.epoch, coalesce({epoch}, 0)) + 1, expires_at = \
             clock_timestamp() + make_interval(secs => $6) where \"group\" = $1 and service = $2 \
             and environment = $3 and expires_at <= clock_timestamp() returning epoch"
        ));
        let grant = sqlx::query_scalar::<_, i64>(grant)
            .bind(group)
            .bind(&owner.service)
            .bind(&owner.environment)
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
        let raise = raise.bind(group).bind(&owner.service).bind(&owner.environment);
        let raise = raise.bind(database).bind(options).bind(epoch).bind(nonce);
        with_deadline(deadline, raise.execute(&mut *transaction)).await?;
        self.enrol(&mut transaction, group, database, &configured).await?;
        with_deadline(deadline, transaction.commit()).await?;
        connection.give_back();
        Ok(Some(Lease::granted(group, epoch, nonce)))
    }

    /// Locks the rows of the leases of a group and of those that its streams are still in, always
    /// in the same order: whether one of these is led is asked after whoever grants it has
    /// committed, by a statement that sees that.
    pub(super) async fn lock_leases(
        &self,
        connection: &mut PgConnection,
        group: &str,
        streams: &[&str],
    ) -> Result<(), Fault> {
        let is_left = stream::are_in(&self.schema, "l", 4, "true");
        let sql = AssertSqlSafe(format!(
            "select from {}.lease as l where (l.\"group\", l.service, l.environment) = ($1, $2, \
             $3) or {is_left} order by l.\"group\", l.service, l.environment for update",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql).bind(group).bind(&owner.service).bind(&owner.environment);
        let locked = query.bind(streams).execute(connection);
        with_deadline(self.deadline, locked).await.map(drop)
    }

    /// Renews the leases of a process by one statement. Answers in their order.
    pub async fn renew(
        &self,
        renewals: &[Renewal],
        duration: Duration,
    ) -> Result<Vec<Renewed>, Fault> {
        let schema = &self.schema;
        let is_due = command::is_due(schema, &stream::of_group(schema, "l"));
        let asked = |column| {
            format!(
                "coalesce(l.{column} > clock_timestamp() - make_interval(secs => \
                 {ASKED_SECONDS}), false)"
            )
        };
        let (wanted, hurried) = (asked("wanted_at"), asked("hurried_at"));
        let sql = AssertSqlSafe(format!(
            "update {schema}.lease as l set expires_at = clock_timestamp() + make_interval(secs => \
             $4), report = coalesce(h.report, l.report) from unnest($1::text[], $2::bigint[], \
             $3::uuid[], $5::jsonb[]) as h (\"group\", epoch, nonce, report) where (l.\"group\", \
             l.epoch, l.nonce) = (h.\"group\", h.epoch, h.nonce) returning l.nonce, {is_due}, \
             {wanted}, {hurried}"
        ));
        let leases = || renewals.iter().map(|renewal| &renewal.lease);
        let query = sqlx::query_as::<_, (Uuid, bool, bool, bool)>(sql)
            .bind(leases().map(Lease::group).collect::<Vec<_>>())
            .bind(leases().map(Lease::epoch).collect::<Vec<_>>())
            .bind(leases().map(Lease::nonce).collect::<Vec<_>>())
            .bind(duration.as_secs_f64())
            .bind(renewals.iter().map(|renewal| renewal.report.clone()).collect::<Vec<_>>());
        // Half the lease's length at most, so that a wire cut in silence leaves time to try again
        // before the lease has run out.
        let kept = with_deadline(duration / 2, query.fetch_all(&self.pool)).await?;
        Ok(leases()
            .map(|lease| match kept.iter().find(|(nonce, ..)| *nonce == lease.nonce()) {
                None => Renewed::Lost,
                Some(&(_, commanded, wanted, hurried)) => {
                    Renewed::Kept { commanded, wanted, hurried }
                }
            })
            .collect())
    }

    /// Gives a lease back, so that another may take the group at once, and leaves it a last report.
    pub async fn release(&self, lease: &Lease, report: &serde_json::Value) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.lease set expires_at = '-infinity', holder = null, wanted_at = null, \
             report = $4 where {HELD}",
            self.schema
        ));
        let query = sqlx::query(sql)
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce())
            .bind(report);
        with_deadline(Duration::from_secs(3), query.execute(&self.pool)).await.map(drop)
    }

    /// Asks the holder of a group to hand it over.
    pub async fn want(&self, group: &str) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.lease set wanted_at = clock_timestamp() where \"group\" = $1 and service = \
             $2 and environment = $3 and expires_at > clock_timestamp()",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql).bind(group).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// Asks the holder of a group to commit its position at once, where it is silent.
    pub async fn hurry(&self, group: &str) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "update {}.lease set hurried_at = clock_timestamp() where \"group\" = $1 and service = \
             $2 and environment = $3",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql).bind(group).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// Who holds the owner's groups, by one statement however many there are.
    pub async fn leases(&self) -> Result<Vec<LeaseRow>, Fault> {
        let sql = AssertSqlSafe(format!(
            "select \"group\", holder, epoch, expires_at > clock_timestamp() as live from \
             {}.lease where service = $1 and environment = $2 order by \"group\"",
            self.schema
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(&owner.environment);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }

    /// Whether somebody leads the group that a stream is in.
    pub async fn is_in_led_group(&self, stream: &str) -> Result<bool, Fault> {
        let (streams, led) = (stream::reported(&self.schema), is_led(&self.schema, "s"));
        let sql = AssertSqlSafe(format!(
            "select exists (select from {streams} as s where s.stream = $1 and {led})"
        ));
        let query = sqlx::query_scalar(sql).bind(stream);
        with_deadline(self.deadline, query.fetch_one(&self.pool)).await
    }

    /// Who leads which of the owner's streams, with what is said of each.
    pub async fn led(&self) -> Result<Vec<LedStream>, Fault> {
        self.led_beside(&[]).await
    }

    /// The same without the streams of some groups: what is said of many is long.
    pub async fn led_beside(&self, groups: &[&str]) -> Result<Vec<LedStream>, Fault> {
        let (schema, streams) = (&self.schema, stream::reported(&self.schema));
        let sql = AssertSqlSafe(format!(
            "select s.stream, s.\"group\", l.holder, coalesce(l.epoch, 0) as epoch, \
             greatest(coalesce(l.expires_at, '-infinity'), 'epoch'::timestamptz) as expires_at, \
             coalesce(l.expires_at > clock_timestamp(), false) as live, s.report, l.report as \
             group_report from {streams} as s left join {schema}.lease as \
             l on (l.\"group\", l.service, l.environment) = (s.\"group\", s.service, \
             s.environment) where s.service = $1 and s.environment = $2 and (s.\"group\" <> \
             all($3)) is not false order by s.stream"
        ));
        let owner = self.target.owner();
        let query = sqlx::query_as(sql).bind(&owner.service).bind(&owner.environment).bind(groups);
        with_deadline(self.deadline, query.fetch_all(&self.pool)).await
    }
}

/// The row of a lease that is kept: three parameters from the first on.
const HELD: &str = "\"group\" = $1 and epoch = $2 and nonce = $3";

/// Whether a lease is kept: group, epoch and nonce are three parameters from the `first` on.
pub(super) fn is_kept(schema: &str, first: usize) -> String {
    format!(
        "exists (select from {schema}.lease where \"group\" = ${first} and epoch = ${} and nonce = \
         ${})",
        first + 1,
        first + 2
    )
}

/// Keeps the leases of the groups of the streams in `$1` from being granted or renewed meanwhile.
pub(super) fn keeping(schema: &str) -> String {
    let is_theirs = stream::are_in(schema, "l", 1, "true");
    format!(
        "select from {schema}.lease as l where {is_theirs} order by l.\"group\", l.service, \
         l.environment for share"
    )
}

/// Whether somebody leads the group of the stream in `of`.
pub(super) fn is_led(schema: &str, of: &str) -> String {
    format!(
        "exists (select from {schema}.lease as l where (l.\"group\", l.service, l.environment) = \
         ({of}.\"group\", {of}.service, {of}.environment) and l.expires_at > clock_timestamp())"
    )
}
