//! The table `attempt`: where pipelines did not end in good order, and what they had in hand. It
//! tells what a process died of.
//!
//! Written under the lease, before what it is about is begun; never on the data path of a stream
//! that is well.

use sqlx::{AssertSqlSafe, FromRow};
use twox_hash::XxHash3_64;
use uuid::Uuid;

use super::{Lease, StateTables, checkpoint};
use crate::error::Fault;
use crate::postgres::with_deadline;

/// On which of its two roads a stream's documents come: in events and their look-ups, or read by a
/// walk. The table's column `road` holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Road {
    Live,
    Walk,
}

impl Road {
    const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Walk => "walk",
        }
    }
}

/// A hash that stands for one place of a stream, or for one thing in hand there. The table keeps
/// nothing else of either, since both may hold a document's `_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(i64);

impl Mark {
    pub fn of(bytes: &[u8]) -> Self {
        Self(XxHash3_64::oneshot(bytes).cast_signed())
    }
}

/// What became of the pipelines that began at this place before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// How many pipelines did not end in good order: those that began here, and the one that came
    /// here from further back.
    pub deaths: i32,
    /// What the last of them had in hand, if anything: its mark, how many things it stands for, and
    /// how many pipelines died with just these in hand.
    pub hand: Option<(Mark, i32, i32)>,
}

/// What is taken in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenInHand {
    pub place: Mark,
    /// The thing that is taken, or the first of several.
    pub what: Mark,
    pub size: usize,
    /// How many pipelines before this one died with just these things in hand.
    pub deaths: i32,
}

#[derive(FromRow)]
struct Row {
    deaths: i32,
    hand: Option<i64>,
    hand_size: i32,
    hand_deaths: i32,
}

impl StateTables {
    /// Notes that a pipeline begins at a place, and says what became of those before it.
    ///
    /// # Errors
    /// Fenced, where another holds the stream.
    pub async fn begin_attempt(
        &self,
        lease: &Lease,
        run: Uuid,
        (whose, road): (&str, Road),
        place: Mark,
    ) -> Result<Before, Fault> {
        let owner = self.target.owner();
        let (schema, held) = (&self.schema, checkpoint::is_held(&self.schema, 5, 6, 7));
        let sql = AssertSqlSafe(format!(
            "insert into {schema}.attempt as a (stream, road, place, run, service, environment) \
             select $1, $2, $3, $4, $8, $9 where {held} on conflict (stream, road, service, \
             environment) do update set deaths = case when a.place = \
             excluded.place then a.deaths else 0 end + coalesce((a.run <> excluded.run)::int, 0), \
             hand = case when a.place = excluded.place then a.hand end, hand_deaths = case when \
             a.place = excluded.place and a.hand is not null then a.hand_deaths + coalesce((a.run \
             <> excluded.run)::int, 0) else 0 end, place = excluded.place, run = excluded.run \
             returning deaths, hand, hand_size, hand_deaths"
        ));
        let query = sqlx::query_as::<_, Row>(sql)
            .bind(whose)
            .bind(road.name())
            .bind(place.0)
            .bind(run)
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce())
            .bind(&owner.service)
            .bind(&owner.environment);
        let row = with_deadline(self.deadline, query.fetch_optional(&self.pool)).await?;
        let row = row.ok_or_else(|| Fault::fenced(lease.group()))?;
        let hand = row.hand.map(|hand| (Mark(hand), row.hand_size, row.hand_deaths));
        Ok(Before { deaths: row.deaths, hand })
    }

    /// Notes what is about to be taken in hand, so that the next pipeline knows what this one died
    /// of, should it die.
    ///
    /// # Errors
    /// Fenced, where another holds the stream.
    pub async fn take_in_hand(
        &self,
        lease: &Lease,
        on: (&str, Road),
        taken: &TakenInHand,
    ) -> Result<(), Fault> {
        self.hold(lease, on, Some(taken)).await
    }

    /// Notes that nothing is in hand any more, and forgets the deaths counted for what was.
    ///
    /// # Errors
    /// Fenced, where another holds the stream.
    pub async fn let_go(&self, lease: &Lease, on: (&str, Road)) -> Result<(), Fault> {
        self.hold(lease, on, None).await
    }

    async fn hold(
        &self,
        lease: &Lease,
        (whose, road): (&str, Road),
        taken: Option<&TakenInHand>,
    ) -> Result<(), Fault> {
        let (schema, held) = (&self.schema, checkpoint::is_held(&self.schema, 7, 8, 9));
        let owner = self.target.owner();
        let sql = AssertSqlSafe(format!(
            "update {schema}.attempt set place = coalesce($3, place), hand = $4, hand_size = $5, \
             hand_deaths = $6 where stream = $1 and road = $2 and service = $10 and environment = \
             $11 and {held}"
        ));
        let size = taken.map_or(0, |taken| i32::try_from(taken.size).unwrap_or(i32::MAX));
        let query = sqlx::query(sql)
            .bind(whose)
            .bind(road.name())
            .bind(taken.map(|taken| taken.place.0))
            .bind(taken.map(|taken| taken.what.0))
            .bind(size)
            .bind(taken.map_or(0, |taken| taken.deaths))
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce())
            .bind(&owner.service)
            .bind(&owner.environment);
        let done = with_deadline(self.deadline, query.execute(&self.pool)).await?;
        if done.rows_affected() == 0 { Err(Fault::fenced(lease.group())) } else { Ok(()) }
    }

    /// Notes that a pipeline ended in good order, whatever the reason: its process was alive to say
    /// so.
    pub async fn ended_well(&self, run: Uuid) -> Result<(), Fault> {
        let sql =
            AssertSqlSafe(format!("update {}.attempt set run = null where run = $1", self.schema));
        let query = sqlx::query(sql).bind(run);
        with_deadline(std::time::Duration::from_secs(1), query.execute(&self.pool)).await.map(drop)
    }
}
