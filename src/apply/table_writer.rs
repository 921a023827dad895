//! What a writer keeps of one table of its group: the statements for it, and what it has learnt of
//! it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::copy::HELD_BACK;
use super::dead_letter::RateWindow;
use super::insert_path::{COPY_MIN, InsertPath};
use super::mapping::Mapping;
use super::pace::Pace;
use super::row_writer::RowWriter;
use super::slow_tables::Took;
use super::statements::Statements;
use super::work::{Applied, Work};
use crate::error::Fault;
use crate::postgres::{Backend, Target, Trouble, with_deadline};
use crate::settings::Record;
use crate::state::{StateTables, Touched, Witness};

/// One stream's table, as its writer knows it.
#[derive(Debug)]
pub struct TableWriter {
    stream: String,
    mapping: Arc<Mapping>,
    statements: Statements,
    rate: RateWindow,
    pub(super) pace: Pace,
    /// How many batches are still written without COPY, after rows that were taken for new were in
    /// the table already.
    no_copy_for: u32,
    /// When the table's witness was last looked for.
    looked: Option<Instant>,
    /// What is committed of it, as far as nothing under way may change that.
    witness: Witness,
    /// Whether the table is partitioned; asked once, before the first rows that are told apart.
    partitioned: Option<bool>,
}

const NO_COPY_BATCHES: u32 = 4;

/// A witness that nothing touches is looked for no more often than this, because it costs half a
/// millisecond, and no backup is so fresh that a second matters.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What is shared by all tables of a group.
#[derive(Clone, Copy)]
pub(super) struct Ends<'a> {
    pub target: &'a Target,
    pub state: &'a StateTables,
    /// The process of which a statement is cancelled that takes long, if one is to be.
    pub backend: Option<&'a Backend>,
    /// What a statement took just before that touched none of the tables.
    pub answer: Duration,
}

impl TableWriter {
    pub const fn new(
        stream: String,
        mapping: Arc<Mapping>,
        statements: Statements,
        limits: Record,
    ) -> Self {
        Self {
            stream,
            mapping,
            statements,
            rate: RateWindow::new(limits),
            pace: Pace::new(),
            no_copy_for: 0,
            looked: None,
            witness: Witness::Unknown,
            partitioned: None,
        }
    }

    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// How many rows a statement may hold, if statements on this table have run out of time lately.
    pub const fn rows_at_once(&self) -> Option<usize> {
        self.pace.rows_max()
    }

    /// The path that is tried first.
    pub(super) fn first_path(&mut self, work: &Work) -> InsertPath {
        self.no_copy_for = self.no_copy_for.saturating_sub(1);
        if !self.pace.allows(statement(work)) {
            InsertPath::Parts
        } else if !self.statements.writes_beside && is_worth_a_copy(work) && self.no_copy_for == 0 {
            InsertPath::Copy
        } else {
            InsertPath::Whole
        }
    }

    /// COPY met a row that is in the table already.
    pub(super) const fn avoid_copy(&mut self) {
        self.no_copy_for = NO_COPY_BATCHES;
    }

    pub(super) fn landed(&mut self, done: &Applied) {
        self.pace.committed();
        self.rate.add(done.events, &done.set_aside, done.letters_accepted);
        if done.witness != Witness::Unknown {
            self.looked = Some(Instant::now());
            self.witness.clone_from(&done.witness);
        }
    }

    /// Without a witness nothing would tell that the table was emptied: there is one as soon as
    /// there is a row.
    fn is_time_to_look(&self) -> bool {
        !self.witness.is_row() || self.looked.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL)
    }

    /// A transaction that may have moved the witness may have been committed, or not.
    pub(super) fn forget_witness(&mut self) {
        self.witness = Witness::Unknown;
    }

    fn may_touch_witness(&self, work: &Work) -> bool {
        self.witness.may_be_among(work.keys())
    }

    /// Before a work is written: looks for a witness that it may write or delete.
    pub(super) async fn look_before(
        &self,
        ends: Ends<'_>,
        connection: &mut PgConnection,
        work: &Work,
    ) -> Result<(), Trouble> {
        if self.may_touch_witness(work) {
            self.hold_witness(ends, connection).await
        } else {
            Ok(())
        }
    }

    /// The witness is there, and stays so until it is written or deleted by this transaction.
    pub(super) async fn hold_witness(
        &self,
        ends: Ends<'_>,
        connection: &mut PgConnection,
    ) -> Result<(), Trouble> {
        ends.state.hold_witness(connection, &self.stream, &self.statements.living).await
    }

    /// Writes one work inside a fenced transaction, by one path, once [`TableWriter::look_before`]
    /// has found the witness.
    pub(super) async fn write(
        &mut self,
        ends: Ends<'_>,
        connection: &mut PgConnection,
        work: &Work,
        path: InsertPath,
    ) -> Result<Applied, Trouble> {
        if self.partitioned.is_none() && work.is_repair() {
            self.partitioned =
                Some(is_partitioned(connection, ends.target, &self.statements.table).await?);
        }
        let mut allowance = self.rate.allowance();
        if path == InsertPath::Parts {
            allowance += ends.state.letters_accepted(&mut *connection, &self.stream).await?;
        }
        let begun = Instant::now();
        let mut pace = std::mem::replace(&mut self.pace, Pace::new());
        let row_writer = self.row_writer(ends, self.may_touch_witness(work));
        let written = row_writer.write(connection, work, (path, &mut pace), allowance).await;
        self.pace = pace;
        let mut done = written?;
        if done.witness != Witness::Unknown {
            self.forget_witness();
        }
        // What is halved takes its time for that.
        if path != InsertPath::Parts {
            let sent = work.rows.len() + work.deletes.ids.len();
            done.took = Took::of(sent, begun.elapsed(), ends.answer);
        }
        self.keep_the_rate(ends.state, connection, &mut done).await?;
        Ok(done)
    }

    /// Looks whether the table is what it was, though nothing is written to it.
    pub(super) async fn look(
        &self,
        ends: Ends<'_>,
        connection: &mut PgConnection,
    ) -> Result<(), Fault> {
        let touched = Touched { living: &self.statements.living, ..Touched::default() };
        ends.state.look_at(connection, &self.stream, &touched).await.map(drop)
    }

    /// The stream, and its table's living rows for SQL, for whoever looks in its place.
    pub(super) fn looked_at(&self) -> (String, String) {
        (self.stream.clone(), self.statements.living.to_string())
    }

    /// The statements of this table. Whether its witness `was_there`, where it may be among what
    /// they write.
    pub(super) fn row_writer<'a>(&'a self, ends: Ends<'a>, was_there: bool) -> RowWriter<'a> {
        RowWriter {
            target: ends.target,
            stream: &self.stream,
            state: ends.state,
            backend: ends.backend,
            mapping: &self.mapping,
            statements: &self.statements,
            looks: self.is_time_to_look(),
            was_there,
            partitioned: self.partitioned.unwrap_or_default(),
        }
    }

    /// Refuses a batch with more dead letters than the rate allows, unless a person lets so many
    /// more pass; these are then used up in the same transaction.
    pub(super) async fn keep_the_rate(
        &self,
        state: &StateTables,
        connection: &mut PgConnection,
        done: &mut Applied,
    ) -> Result<(), Fault> {
        let beyond = done.set_aside.total().saturating_sub(self.rate.allowance());
        if beyond > 0 {
            if state.letters_accepted(&mut *connection, &self.stream).await? < beyond {
                return Err(self.rate.exceeded(&done.set_aside));
            }
            let used = i64::try_from(beyond).unwrap_or(i64::MAX);
            state.accept_letters(connection, &self.stream, -used).await?;
            done.letters_accepted = beyond;
        }
        Ok(())
    }
}

/// How many rows, or deletes, the largest statement of a work holds.
pub(super) fn statement(work: &Work) -> usize {
    work.rows.len().max(work.deletes.ids.len())
}

fn is_worth_a_copy(work: &Work) -> bool {
    work.fresh >= COPY_MIN && work.rows.bytes(0..work.fresh) >= HELD_BACK
}

async fn is_partitioned(
    connection: &mut PgConnection,
    target: &Target,
    table: &str,
) -> Result<bool, Fault> {
    let sql = AssertSqlSafe("select relkind = 'p' from pg_class where oid = $1::regclass");
    let query = sqlx::query_scalar(sql).bind(table);
    with_deadline(target.deadline(), query.fetch_one(connection)).await
}
