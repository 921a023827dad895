//! How a group begins or goes on: a position if it takes a new one, the walks of its streams, and
//! what their rows are bound to are one fenced transaction, in which the position before is
//! archived.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::checkpoint::BeginsAt;
use super::{
    BoundTo, Configured, Fence, Lease, StateTables, checkpoint, resync, stream, stream_position,
};
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position};
use crate::model::reason::Reason;
use crate::postgres::{close, with_deadline};

/// What a walk of one stream begins with.
#[derive(Debug, Clone)]
pub struct Beginning<'a> {
    pub stream: &'a str,
    pub reason: Reason,
    /// Why, for people.
    pub why: &'a str,
    /// The cluster time of the position the group goes on from, or a later one at which the
    /// collection was looked at.
    pub start_time: ClusterTime,
    pub blind_from: Option<DateTime<Utc>>,
    pub documents_estimated: Option<u64>,
    /// Rows may lack what their hashes say they hold.
    pub by_content: bool,
    /// What the rows are of from now on, found before the position was taken.
    pub bound: BoundTo<'a>,
}

/// A position that takes the place of the stored one.
#[derive(Debug, Clone)]
pub struct NewPosition<'a> {
    pub position: &'a Position,
    pub database: &'a str,
    pub options: &'a str,
    /// Why the one before is retired, for people.
    pub why: &'a str,
}

/// What changes of a group before it goes on.
#[derive(Debug, Clone, Default)]
pub struct Changes<'a> {
    pub position: Option<NewPosition<'a>>,
    pub walks: Vec<Beginning<'a>>,
    /// Streams to be bound anew, their rows as they are.
    pub bound: Vec<(&'a str, BoundTo<'a>)>,
    /// Walks of streams whose rows count as another source's from now on, and are else what they
    /// were: put off until the group goes on with the stream.
    pub put_off: Vec<Beginning<'a>>,
    /// Streams that the group goes on without, and why.
    pub parked: Vec<(&'a str, &'a Fault)>,
    /// Streams that are not in the group any more.
    pub left: Vec<&'a str>,
    /// Streams that had positions of their own, which are used up.
    pub taken_over: Vec<&'a str>,
    /// Rows of these streams may be of any time up to this one.
    pub ahead: Option<(Vec<&'a str>, ClusterTime)>,
}

impl Changes<'_> {
    pub const fn is_empty(&self) -> bool {
        self.position.is_none()
            && self.walks.is_empty()
            && self.bound.is_empty()
            && self.put_off.is_empty()
            && self.parked.is_empty()
            && self.left.is_empty()
            && self.taken_over.is_empty()
    }
}

impl StateTables {
    /// Makes the changes, in a transaction of its own. Returns the revision it made.
    ///
    /// # Errors
    /// Fenced, where another holds the group.
    pub async fn change(&self, lease: &Lease, changes: &Changes<'_>) -> Result<i64, Fault> {
        let deadline = self.deadline;
        let mut connection = self.target.connect().await?;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        let fence = Fence::raise(&mut transaction, self, lease).await?;
        self.change_in(&mut transaction, &fence, lease, changes).await?;
        with_deadline(deadline, transaction.commit()).await?;
        close(connection).await;
        Ok(fence.revision() + 1)
    }

    /// Takes into the group those of its streams that are in none, or in a group that nobody leads,
    /// in a transaction of its own.
    ///
    /// # Errors
    /// Fenced, where another holds the group.
    pub async fn take_into(
        &self,
        lease: &Lease,
        database: &str,
        configured: &Configured<'_>,
    ) -> Result<(), Fault> {
        let deadline = self.deadline;
        let mut connection = self.target.connect().await?;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        self.lock_for_enrolment(&mut transaction, lease.group(), database, configured).await?;
        Fence::raise(&mut transaction, self, lease).await?;
        self.enrol(&mut transaction, lease.group(), database, configured).await?;
        with_deadline(deadline, transaction.commit()).await?;
        close(connection).await;
        Ok(())
    }

    /// Makes the changes in the caller's transaction. A walk still open of a stream that begins a
    /// new one ends as failed: what it had repaired is carried over to the new one's report.
    ///
    /// # Errors
    /// Fenced, where another holds the group.
    pub(super) async fn change_in(
        &self,
        connection: &mut PgConnection,
        fence: &Fence<'_>,
        lease: &Lease,
        changes: &Changes<'_>,
    ) -> Result<(), Fault> {
        if let Some(NewPosition { position, database, options, why }) = &changes.position {
            self.retire_position(connection, lease, why).await?;
            let begun = BeginsAt { database, options, time: position.cluster_time };
            self.position_begins(connection, lease, &begun).await?;
        }
        let bound = changes.bound.iter().map(|(stream, bound)| (*stream, bound));
        let walked = changes.walks.iter().map(|walk| (walk.stream, &walk.bound));
        let bound: Vec<_> = bound.chain(walked).collect();
        if !bound.is_empty() {
            self.refuse_held(connection, lease.group(), &bound).await?;
        }
        for (stream, bound) in &changes.bound {
            self.bind_in(connection, stream, bound).await?;
        }
        for walk in &changes.put_off {
            self.put_walk_off(connection, walk).await?;
        }
        for walk in &changes.walks {
            self.begin_walk(connection, walk).await?;
        }
        for (stream, fault) in &changes.parked {
            self.park(connection, stream, fault, None).await?;
        }
        if !changes.left.is_empty() {
            self.let_streams_go(connection, &changes.left).await?;
        }
        if let Some((streams, until)) = &changes.ahead {
            self.note_ahead(connection, streams, *until).await?;
        }
        // What is walked or bound from the group's position is in hand, wherever it was before.
        let walked = changes.walks.iter().map(|walk| walk.stream);
        let in_hand = walked.chain(changes.bound.iter().map(|(stream, _)| *stream));
        let in_hand: Vec<&str> = in_hand.chain(changes.taken_over.iter().copied()).collect();
        self.forget_own_positions(connection, &in_hand).await?;
        fence.advance(connection, changes.position.as_ref().map(|new| new.position)).await
    }

    /// Lets streams of the group go, and remembers where they are.
    async fn let_streams_go(
        &self,
        connection: &mut PgConnection,
        streams: &[&str],
    ) -> Result<(), Fault> {
        let (schema, deadline) = (&self.schema, self.deadline);
        let whole = resync::is_whole(schema, "s.stream");
        let followed = stream::followed(schema, &checkpoint::rows(schema), &whole);
        let remember = AssertSqlSafe(stream_position::remembering(schema, &followed));
        let remember = sqlx::query(remember).bind(streams);
        with_deadline(deadline, remember.execute(&mut *connection)).await?;
        let leave = sqlx::query(AssertSqlSafe(stream::letting_go(schema))).bind(streams);
        with_deadline(deadline, leave.execute(connection)).await.map(drop)
    }

    /// The walk's row; what its stream's rows are bound to; that they are not what the position
    /// says until it is completed.
    async fn begin_walk(
        &self,
        connection: &mut PgConnection,
        walk: &Beginning<'_>,
    ) -> Result<(), Fault> {
        let begun = self.note_beginning(connection, walk).await?;
        self.bind_in(connection, walk.stream, &walk.bound).await?;
        self.unpark(connection, walk.stream).await?;
        self.walk_ahead(connection, walk.stream, begun).await
    }

    /// Notes that a walk is wanted, which nothing does before the stream goes on: the one that
    /// begins then is begun in its place, and has to be completed.
    async fn put_walk_off(
        &self,
        connection: &mut PgConnection,
        walk: &Beginning<'_>,
    ) -> Result<(), Fault> {
        self.note_beginning(connection, walk).await?;
        self.bind_source(connection, walk.stream, &walk.bound).await?;
        let why = "put off: the stream is paused, and walked when that is over";
        self.cancel_open_walk(connection, walk.stream, why).await
    }

    /// Makes the walk's row. Answers since when the stream has been blind.
    async fn note_beginning(
        &self,
        connection: &mut PgConnection,
        walk: &Beginning<'_>,
    ) -> Result<Option<DateTime<Utc>>, Fault> {
        let reason = walk.reason;
        let beginning = AssertSqlSafe(resync::beginning(&self.schema));
        let query = sqlx::query_scalar::<_, Option<DateTime<Utc>>>(beginning)
            .bind(walk.stream)
            .bind(reason.name())
            .bind(walk.why)
            .bind(reason.is_counted())
            .bind(walk.start_time.to_sql())
            .bind(walk.blind_from)
            .bind(f64::from(walk.start_time.seconds()))
            .bind(walk.documents_estimated.and_then(|n| i64::try_from(n).ok()))
            .bind(walk.bound.collection_uuid)
            .bind(walk.by_content);
        with_deadline(self.deadline, query.fetch_one(connection)).await
    }

    /// Whether another walk of the stream started at the same time.
    pub async fn shares_its_start(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        walk: i64,
        start: ClusterTime,
    ) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(resync::started_at(&self.schema));
        let query = sqlx::query_scalar(sql).bind(stream).bind(walk).bind(start.to_sql());
        with_deadline(self.deadline, query.fetch_one(connection)).await
    }

    /// A walk has its turn: from now on its time counts.
    ///
    /// # Errors
    /// Fenced, where another holds the group.
    pub async fn take_turn(
        &self,
        lease: &Lease,
        walk: i64,
        duration_max: Option<Duration>,
    ) -> Result<(), Fault> {
        let sql = resync::taking_turn(&self.schema, 3);
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(walk)
            .bind(duration_max.map(|duration| duration.as_secs_f64()))
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce());
        with_deadline(self.deadline, query.execute(&self.pool)).await.map(drop)
    }
}
