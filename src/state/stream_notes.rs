//! What is noted of a stream while it is followed: that it is parked, of which time its rows may
//! be, how many dead letters may pass, its phase, and what is said of it. Its statements are those
//! of the table `stream`.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnection, PgExecutor};
use sqlx::types::Json;

use super::{Lease, StateTables, checkpoint, stream, stream_row};
use crate::error::Fault;
use crate::model::mapping_digest::MappingDigest;
use crate::model::phase::Phase;
use crate::model::position::ClusterTime;
use crate::postgres::with_deadline;

/// Of a stream that nobody told to stop, or that goes on.
const NOT_PAUSED: &str = "paused_until = null, paused_by = null, paused_reason = null";

impl StateTables {
    /// Parks a stream, in the transaction that goes on without it `after` this time: if `None`,
    /// that of the position of its group.
    pub async fn park(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        fault: &Fault,
        after: Option<ClusterTime>,
    ) -> Result<(), Fault> {
        let position = checkpoint::time_of(&self.schema, "s");
        let sql = AssertSqlSafe(format!(
            "{} set parked_code = $2, parked_reason = $3, {NOT_PAUSED}, blind_from = {since}, \
             phase = '{parked}', phase_since = case when phase = '{parked}' then phase_since else \
             now() end where stream = $1",
            stream::changing(&self.schema),
            since = stream_row::missed_since(&format!("coalesce($4, {position})")),
            parked = Phase::Parked
        ));
        let query = sqlx::query(sql)
            .bind(stream)
            .bind(fault.code.name())
            .bind(&fault.message)
            .bind(after.map(ClusterTime::at));
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// What parked or paused a stream is gone. In the caller's fenced transaction.
    pub(super) async fn unpark(
        &self,
        connection: &mut PgConnection,
        stream: &str,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "{} set parked_code = null, parked_reason = null, {NOT_PAUSED} where stream = $1 and \
             parked_code is not null",
            stream::changing(&self.schema)
        ));
        with_deadline(self.deadline, sqlx::query(sql).bind(stream).execute(connection))
            .await
            .map(drop)
    }

    /// Streams' rows may be of any time up to this one, also once walks that are open have ended.
    /// In the caller's fenced transaction.
    pub async fn note_ahead(
        &self,
        connection: &mut PgConnection,
        streams: &[&str],
        until: ClusterTime,
    ) -> Result<(), Fault> {
        self.raise_ahead(connection, streams, until).await?;
        self.note_read(connection, streams, until).await
    }

    /// A stream's rows are of no time that can be told until its walk has ended, and lack what
    /// happened since a time until it is completed. In the caller's fenced transaction.
    pub(super) async fn walk_ahead(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        blind_from: Option<DateTime<Utc>>,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "{} set ahead_until = $2, blind_from = $3 where stream = $1",
            stream::changing(&self.schema)
        ));
        let query = sqlx::query(sql).bind(stream).bind(ClusterTime::END.to_sql()).bind(blind_from);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    async fn raise_ahead(
        &self,
        connection: &mut PgConnection,
        streams: &[&str],
        until: ClusterTime,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "{} set ahead_until = greatest(ahead_until, $2) where stream = any($1)",
            stream::changing(&self.schema)
        ));
        let query = sqlx::query(sql).bind(streams).bind(until.to_sql());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// How many dead letters of a stream may still pass beyond the rate (`record.*`), because a
    /// person said so by `dead-letter accept`.
    pub async fn letters_accepted(
        &self,
        executor: impl PgExecutor<'_>,
        stream: &str,
    ) -> Result<u64, Fault> {
        let sql = stream::accepting(&self.schema);
        let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).bind(stream);
        let accepted = with_deadline(self.deadline, query.fetch_optional(executor)).await?;
        Ok(accepted.and_then(|number| u64::try_from(number).ok()).unwrap_or_default())
    }

    /// Lets `number` dead letters pass beyond the rate from now on, in place of what was left of an
    /// earlier word; or, negative, takes so many off it. In the caller's transaction.
    pub async fn accept_letters(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        number: i64,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "{} set letters_accepted = case when $2 < 0 then letters_accepted + $2 \
             else $2 end where stream = $1",
            stream::changing(&self.schema)
        ));
        let query = sqlx::query(sql).bind(stream).bind(number);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// A stream's walk is completed: its rows are of no time later than this one, and lack nothing
    /// that happened before. In the caller's fenced transaction.
    pub async fn settle_ahead(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        until: ClusterTime,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "{} set ahead_until = $2, blind_from = null where stream = $1",
            stream::changing(&self.schema)
        ));
        let query = sqlx::query(sql).bind(stream).bind(until.to_sql());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// A stream's walk is cancelled: where nothing was missed, its rows are of no time later than
    /// this one, those that the walk has read and those that it has not. In the caller's fenced
    /// transaction.
    pub(super) async fn settle_cancelled(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        until: ClusterTime,
    ) -> Result<(), Fault> {
        let sql = AssertSqlSafe(format!(
            "{} set ahead_until = $2 where stream = $1 and blind_from is null",
            stream::changing(&self.schema)
        ));
        let query = sqlx::query(sql).bind(stream).bind(until.to_sql());
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Rows have no values of what the table lacked until it is made, or made again: it is as new
    /// as if it had just been configured. Of rows of which it is not known what made them, that was
    /// `now` but for what is lacking. `false`: nothing was remembered of it.
    pub async fn forget_made(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        now: &MappingDigest,
        (columns, children): (&[String], &[String]),
    ) -> Result<bool, Fault> {
        let known = "coalesce(s.mapping, $6)";
        let left = |part: &str, parameter: u8| {
            format!("'{part}', coalesce({known} -> '{part}', '{{}}') - ${parameter}::text[]")
        };
        let sql = AssertSqlSafe(format!(
            "{} set mapping = {known} || jsonb_build_object({}, {}) where stream = $1 and \
             (service, environment) = ($4, $5) and ({known} -> 'columns' ?| $2::text[] or \
             {known} -> 'children' ?| $3::text[])",
            stream::changing(&self.schema),
            left("columns", 2),
            left("children", 3)
        ));
        let owner = self.target.owner();
        let query = sqlx::query(sql)
            .bind(stream)
            .bind(columns)
            .bind(children)
            .bind(&owner.service)
            .bind(&owner.environment)
            .bind(Json(now));
        let forgotten = with_deadline(self.deadline, query.execute(connection)).await?;
        Ok(forgotten.rows_affected() > 0)
    }

    /// Writes down the phases of some streams, for those who ask the database. Only under the
    /// lease; a parked stream says so itself.
    pub async fn note_phases(&self, lease: &Lease, phases: &[(&str, Phase)]) -> Result<(), Fault> {
        let held = checkpoint::is_held(&self.schema, 3, 4, 5);
        let sql = AssertSqlSafe(format!(
            "{} set phase = p.phase, phase_since = now() from \
             unnest($1::text[], $2::text[]) as p (stream, phase) where s.stream = p.stream and \
             s.phase <> p.phase and s.parked_code is null and {held}",
            stream::changing(&self.schema)
        ));
        let query = sqlx::query(sql)
            .bind(phases.iter().map(|(stream, _)| *stream).collect::<Vec<_>>())
            .bind(phases.iter().map(|(_, phase)| phase.name()).collect::<Vec<_>>())
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce());
        let deadline = std::time::Duration::from_secs(5);
        with_deadline(deadline, query.execute(&self.pool)).await.map(drop)
    }

    /// Writes down what is said of some streams. Only under the lease. Rows that the writer holds,
    /// in a transaction that takes long, are left for the next time: `false` says that some were.
    pub async fn note_reports(
        &self,
        lease: &Lease,
        reports: &[(String, serde_json::Value)],
    ) -> Result<bool, Fault> {
        let held = checkpoint::is_held(&self.schema, 3, 4, 5);
        let sql = AssertSqlSafe(format!(
            "with free as ({}) {} set report = r.report from unnest($1::text[], $2::jsonb[]) as r \
             (stream, report) join free using (stream) where s.stream = r.stream and {held}",
            stream::free(&self.schema),
            stream::changing(&self.schema)
        ));
        let query = sqlx::query(sql)
            .bind(reports.iter().map(|(stream, _)| stream.as_str()).collect::<Vec<_>>())
            .bind(reports.iter().map(|(_, report)| report).collect::<Vec<_>>())
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce());
        let written = with_deadline(self.deadline, query.execute(&self.pool)).await?;
        Ok(written.rows_affected() == reports.len() as u64)
    }
}
