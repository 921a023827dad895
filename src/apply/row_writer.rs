//! The one transaction, and what it may carry. Every write of tidemark to a followed table goes
//! through here.

use std::ops::Range;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments, AssertSqlSafe};

use super::bind::Columns;
use super::dead_letter::{DeadLetter, Tally};
use super::mapping::field_types;
use super::pace::Pace;
use super::parts::{Halving, Kind};
use super::rows::{Deletes, Rows};
use super::statements::Statements;
use super::walk::Walk;
use crate::error::Fault;
use crate::model::event::Operation;
use crate::model::position::{ClusterTime, Position};
use crate::model::value::ColumnType;
use crate::postgres::{Target, Trouble, about_rows, with_deadline};
use crate::settings::Column;
use crate::state::{Fence, Touched};

/// What one transaction carries.
#[derive(Debug, Default)]
pub struct Work {
    pub rows: Rows,
    /// The first so many rows are not expected to be in the table yet: they take the fast road.
    pub fresh: usize,
    /// Rows left out because the table has them as they are.
    pub known: u64,
    pub deletes: Deletes,
    pub dead: Vec<DeadLetter>,
    /// A dead letter that this work resolves.
    pub resolves: Option<i64>,
    /// The position after this work; `None` leaves the stored one.
    pub position: Option<Position>,
    pub walk: Option<Walk>,
    /// The resync that is open meanwhile: what this work leaves unwritten counts as seen by it.
    pub beside: Option<Beside>,
    /// Events or documents this work stands for.
    pub events: u64,
    /// Where row n came from: the raw bytes for a dead letter. Called with [`Rows::origin`].
    pub origins: Origins,
}

impl Work {
    /// The ids of the documents it is about: written, deleted or set aside.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let rows = (0..self.rows.len()).filter_map(|index| self.rows.id(index));
        let dead = self.dead.iter().filter_map(|letter| letter.document_id.as_deref());
        rows.chain(self.deletes.ids.iter().map(String::as_str)).chain(dead)
    }
}

/// A resync that is open while the live stream writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    pub resync: i64,
    /// What is older is swept at its end, unless it was seen.
    pub start: ClusterTime,
}

/// The raw bytes rows were made from.
#[derive(Debug, Default)]
pub enum Origins {
    #[default]
    None,
    Events(Vec<crate::batch::EventRef>),
    Documents(Vec<crate::source::Reply>),
}

impl Origins {
    pub(super) fn bytes(&self, index: usize) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Events(events) => {
                events.get(index).map(|event| event.bytes().to_vec()).unwrap_or_default()
            }
            Self::Documents(replies) => {
                let mut items = replies.iter().flat_map(crate::source::Reply::items);
                items.nth(index).map(<[u8]>::to_vec).unwrap_or_default()
            }
        }
    }

    pub(super) fn operation(&self, index: usize) -> &'static str {
        match self {
            Self::Events(events) => {
                let event = events
                    .get(index)
                    .and_then(|e| crate::model::event::Event::parse(e.bytes()).ok());
                event.map_or("unreadable", |event| event.operation.name())
            }
            Self::None | Self::Documents(_) => "snapshot",
        }
    }
}

/// What a piece of work came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Inserted or updated.
    pub rows_changed: u64,
    /// Of them, inserted by a resync.
    pub rows_inserted: u64,
    pub rows_unchanged: u64,
    pub rows_deleted: u64,
    pub set_aside: Tally,
    /// Of the dead letters, those that passed because a person lets more pass than an accident
    /// brings.
    pub letters_accepted: u64,
    /// Dead letters by the operation of their event, in the order of [`Operation::ROWS`].
    pub dead_by_operation: [u64; 4],
    /// A few ids of rows a resync inserted, changed or deleted.
    pub sample_ids: Vec<String>,
    /// Events or documents it stands for.
    pub events: u64,
}

/// Ids kept of what one transaction of a resync did.
const SAMPLE_IDS: usize = 5;

impl Applied {
    fn sample(&mut self, ids: Vec<String>) {
        self.sample_ids.extend(ids);
        self.sample_ids.truncate(SAMPLE_IDS);
    }
}
/// Of so many rows written last, the newest becomes the table's witness: not each of them need have
/// changed.
const WITNESSES: usize = 8;

/// Fewer rows than this are not worth COPY's round trips.
pub(super) const COPY_MIN: usize = 100;

/// How rows are sent. A road that Postgres refuses something on gives way to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InsertPath {
    /// Fresh rows by COPY, which costs Postgres less but stops at a row that is there already; the
    /// rest by upsert.
    Copy,
    /// All rows by one upsert, all deletes by one statement.
    Whole,
    /// Halve and halve again until what cannot be stored stands alone.
    Parts,
}

/// One stream's table and the statements for it.
pub(super) struct RowWriter<'a> {
    pub target: &'a Target,
    pub stream: &'a str,
    pub state_schema: &'a str,
    pub columns: &'a [Column],
    pub statements: &'a Statements,
    /// Whether the table's witness is to be one of the rows written.
    pub moves_witness: bool,
    pub partitioned: bool,
}

impl RowWriter<'_> {
    /// Rows, dead letters, walk and position, inside a fenced transaction. By
    /// [`InsertPath::Parts`], at most `allowance` may be set aside; more are not looked for.
    pub async fn write(
        &self,
        connection: &mut PgConnection,
        fence: &Fence<'_>,
        work: &Work,
        way: (InsertPath, &mut Pace),
        allowance: u64,
    ) -> Result<Applied, Trouble> {
        let mut done = Applied::default();
        let (road, pace) = way;
        let (rows, deletes) = (work.rows.len(), work.deletes.ids.len());
        let mut refused = Vec::new();
        if road == InsertPath::Parts {
            refused = Halving::new(self, work, pace, allowance).run(connection, &mut done).await?;
        } else {
            let copied = if road == InsertPath::Copy { work.fresh } else { 0 };
            if copied > 0 {
                done.rows_changed = self.copy(connection, &work.rows, 0..copied).await?;
            }
            if copied < rows {
                self.put(connection, work, copied..rows, &mut done).await?;
            }
            if deletes > 0 {
                self.delete(connection, work, 0..deletes, &mut done).await?;
            }
        }
        let stored = rows - refused.iter().filter(|refused| refused.kind == Kind::Rows).count();
        let unchanged = crate::status::count(stored).saturating_sub(done.rows_changed);
        done.rows_unchanged = work.known + unchanged;
        let letters: Vec<DeadLetter> =
            refused.iter().map(|refused| DeadLetter::of_refused(work, refused)).collect();
        self.conclude(connection, fence, work, &letters, &mut done).await?;
        Ok(done)
    }

    /// All but the rows.
    pub async fn conclude(
        &self,
        connection: &mut PgConnection,
        fence: &Fence<'_>,
        work: &Work,
        refused: &[DeadLetter],
        done: &mut Applied,
    ) -> Result<(), Fault> {
        done.events = work.events;
        let dead: Vec<&DeadLetter> = work.dead.iter().chain(refused).collect();
        done.set_aside = Tally::of(&dead);
        for letter in &dead {
            let place = Operation::ROWS.iter().position(|op| op.name() == letter.operation);
            // What could not be read at all was counted as an update when it was received.
            if let Some(slot) = done.dead_by_operation.get_mut(place.unwrap_or(1)) {
                *slot += 1;
            }
        }
        self.set_aside(connection, &dead).await?;
        self.resolve(connection, work.resolves).await?;
        if let Some(beside) = work.beside {
            self.keep(connection, work, beside).await?;
        }
        if let Some(walk) = &work.walk {
            self.advance_walk(connection, walk, done).await?;
        }
        let few = if self.moves_witness { WITNESSES } else { 0 };
        let last = work.rows.len().saturating_sub(few)..work.rows.len();
        let touched = Touched {
            table: &self.statements.table,
            written: last.filter_map(|row| work.rows.id(row)).collect(),
            deleted: &work.deletes.ids,
        };
        fence.advance_over(connection, self.target, work.position.as_ref(), &touched).await
    }

    /// Rows by one statement; those of a repair are told apart: inserted and changed, with a few of
    /// their ids.
    pub(super) async fn put(
        &self,
        connection: &mut PgConnection,
        work: &Work,
        range: Range<usize>,
        done: &mut Applied,
    ) -> Result<(), Trouble> {
        let arguments = row_arguments(&work.rows, range, self.columns)?;
        let deadline = self.target.deadline();
        if !work.walk.as_ref().is_some_and(Walk::is_repair) {
            let sql = AssertSqlSafe(self.statements.upsert.to_string());
            let query = sqlx::query_with(sql, arguments);
            let written = about_rows(deadline, query.execute(connection)).await?;
            done.rows_changed += written.rows_affected();
            return Ok(());
        }
        let Statements { repair, repair_partitioned, .. } = self.statements;
        let repair = if self.partitioned { repair_partitioned } else { repair };
        let query = sqlx::query_as_with(AssertSqlSafe(repair.to_string()), arguments);
        let (inserted, changed, ids): (i64, i64, Vec<String>) =
            about_rows(deadline, query.fetch_one(connection)).await?;
        done.rows_inserted += u64::try_from(inserted).unwrap_or_default();
        done.rows_changed += u64::try_from(inserted + changed).unwrap_or_default();
        done.sample(ids);
        Ok(())
    }

    /// Deletes by one statement; a walk keeps a few of their ids.
    pub(super) async fn delete(
        &self,
        connection: &mut PgConnection,
        work: &Work,
        range: Range<usize>,
        done: &mut Applied,
    ) -> Result<(), Trouble> {
        let Deletes { ids, cluster_times, .. } = &work.deletes;
        let sql = AssertSqlSafe(self.statements.delete.to_string());
        let query = sqlx::query_as(sql)
            .bind(ids.get(range.clone()).unwrap_or_default())
            .bind(cluster_times.get(range).unwrap_or_default());
        let (deleted, ids): (i64, Vec<String>) =
            about_rows(self.target.deadline(), query.fetch_one(connection)).await?;
        done.rows_deleted += u64::try_from(deleted).unwrap_or_default();
        if work.walk.is_some() {
            done.sample(ids);
        }
        Ok(())
    }

    /// Without an answer that matters.
    pub(super) async fn plain(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
    ) -> Result<(), Trouble> {
        about_rows(self.target.deadline(), sqlx::raw_sql(sql).execute(connection)).await.map(drop)
    }

    /// A row that would not change is not stamped anew, and one that could not be written not at
    /// all: an open resync has to be told that their documents are there, or its sweep would take
    /// them for gone.
    async fn keep(
        &self,
        connection: &mut PgConnection,
        work: &Work,
        beside: Beside,
    ) -> Result<(), Fault> {
        let rows = (0..work.rows.len()).filter_map(|index| work.rows.id(index));
        let dead = work.dead.iter().filter_map(|letter| letter.document_id.as_deref());
        let ids: Vec<&str> = rows.chain(dead).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "insert into {}.resync_kept (resync_id, id) select $3, older.id from ({}) as older on \
             conflict do nothing",
            self.state_schema, self.statements.older
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(ids)
            .bind(beside.start.to_sql())
            .bind(beside.resync);
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }

    async fn resolve(
        &self,
        connection: &mut PgConnection,
        letter: Option<i64>,
    ) -> Result<(), Fault> {
        let Some(letter) = letter else { return Ok(()) };
        let sql = format!(
            "update {}.dead_letter set resolved_at = now(), resolution = 'retried' where id = $1 \
             and resolved_at is null",
            self.state_schema
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(letter);
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }

    async fn set_aside(
        &self,
        connection: &mut PgConnection,
        dead: &[&DeadLetter],
    ) -> Result<(), Fault> {
        if dead.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "insert into {}.dead_letter (stream, document_id, operation, event, code, error, \
             cluster_time) select $1, d.* from unnest($2::text[], $3::text[], $4::bytea[], \
             $5::text[], $6::text[], $7::bigint[]) as d",
            self.state_schema
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(self.stream)
            .bind(dead.iter().map(|d| d.document_id.clone()).collect::<Vec<_>>())
            .bind(dead.iter().map(|d| d.operation).collect::<Vec<_>>())
            .bind(dead.iter().map(|d| d.event.as_slice()).collect::<Vec<_>>())
            .bind(dead.iter().map(|d| d.code.name()).collect::<Vec<_>>())
            .bind(dead.iter().map(|d| d.error.as_str()).collect::<Vec<_>>())
            .bind(dead.iter().map(|d| d.cluster_time.map(ClusterTime::to_sql)).collect::<Vec<_>>());
        with_deadline(self.target.deadline(), query.execute(connection)).await.map(drop)
    }
}

/// Rows as the arguments of a statement that unnests them.
///
/// # Errors
/// Only a bug: the encoding of an argument failed.
pub fn row_arguments(
    rows: &Rows,
    range: Range<usize>,
    columns: &[Column],
) -> Result<PgArguments, Fault> {
    let mut arguments = PgArguments::default();
    let mut read = Columns::new(rows, range);
    for kind in [ColumnType::Text].into_iter().chain(field_types(columns)) {
        arguments.add(read.next(kind)).map_err(|_| Fault::bug("a column could not be bound"))?;
    }
    Ok(arguments)
}
