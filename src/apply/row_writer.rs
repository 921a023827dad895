//! The statements of one stream inside a transaction: rows and deletes, and what concludes it.
//! Every write of tidemark to a followed table goes through here.

use std::future::Future;
use std::ops::Range;

use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::{Arguments, AssertSqlSafe};

use super::bind::Columns;
use super::dead_letter::{DeadLetter, Tally};
use super::mapping::{Mapping, field_types};
use super::rows::{Deletes, Rows};
use super::statement_limit::limit;
use super::statements::Statements;
use super::walk::{ChunkSeen, Walk, WalkStep};
use super::work::{Applied, Beside, Work};
use crate::error::Fault;
use crate::model::event::Operation;
use crate::model::position::ClusterTime;
use crate::model::value::ColumnType;
use crate::model::version_operation::VersionOperation;
use crate::postgres::{Backend, Target, Trouble, about_rows, cancelled_after};
use crate::settings::RowSpec;
use crate::state::{ChunkRead, SetAside, StateTables, Touched};

/// How many of the rows written last are offered as the table's witness; the newest of them becomes
/// it. More than one, because a row that was sent need not have changed.
const WITNESSES: usize = 8;

/// One stream's table and the statements for it.
pub(super) struct RowWriter<'a> {
    pub target: &'a Target,
    pub stream: &'a str,
    pub state: &'a StateTables,
    /// The process of which a statement is cancelled that takes long, if one is to be.
    pub backend: Option<&'a Backend>,
    pub mapping: &'a Mapping,
    pub statements: &'a Statements,
    /// Whether it is time to look for the table's witness, and to make a newer row the witness.
    pub looks: bool,
    /// The witness may be among what is written and deleted, and was found before that.
    pub was_there: bool,
    pub partitioned: bool,
}

impl RowWriter<'_> {
    /// Writes all that a transaction holds of the stream beside its rows: dead letters, the walk's
    /// progress, of which time the rows are; and looks whether the table is what it was.
    pub async fn conclude(
        &self,
        connection: &mut PgConnection,
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
        let letters: Vec<SetAside<'_>> = dead.iter().map(|letter| letter.to_set_aside()).collect();
        let redaction = self.mapping.redaction().fingerprint();
        self.state.set_aside(connection, self.stream, redaction, &letters).await?;
        if let Some(letter) = work.resolves {
            self.state.resolve_letter(connection, letter).await?;
        }
        if let Some(step) = work.part {
            let counts = (done.rows_changed, done.rows_deleted, done.set_aside.total());
            self.state.note_part(connection, step, counts).await?;
        }
        if let Some(beside) = work.beside {
            self.keep(connection, work, beside).await?;
        }
        if let Some(walk) = &work.walk {
            self.advance_walk(connection, walk, work.ahead, done).await?;
        } else if let Some(until) = work.ahead {
            self.state.note_ahead(connection, &[self.stream], until).await?;
        }
        // A witness that is deleted, or may have got an earlier time, makes way for another one.
        let is_lost = !work.deletes.ids.is_empty() || work.is_repair();
        let is_due = self.looks || self.was_there && is_lost;
        if !is_due {
            return Ok(());
        }
        let last = work.rows.len().saturating_sub(WITNESSES)..work.rows.len();
        let touched = Touched {
            living: &self.statements.living,
            written: last.filter_map(|row| work.rows.id(row)).collect(),
            was_there: self.was_there,
        };
        done.witness = self.state.look_at(connection, self.stream, &touched).await?;
        Ok(())
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
        let size = range.len();
        let mut arguments = row_arguments(&work.rows, range, self.mapping.rows())?;
        if self.statements.keeping.history {
            add_operation(&mut arguments, Some(work))?;
        }
        if !work.is_repair() {
            let sql = AssertSqlSafe(self.statements.upsert.to_string());
            if self.statements.writes_beside {
                let query = sqlx::query_scalar_with::<_, i64, _>(sql, arguments);
                let written = self.in_time(size, query.fetch_one(connection)).await?;
                done.rows_changed += u64::try_from(written).unwrap_or_default();
                return Ok(());
            }
            let query = sqlx::query_with(sql, arguments);
            let written = self.in_time(size, query.execute(connection)).await?;
            done.rows_changed += written.rows_affected();
            return Ok(());
        }
        let Statements { repair, repair_partitioned, .. } = self.statements;
        let repair = if self.partitioned { repair_partitioned } else { repair };
        let renews = work.walk.as_ref().is_some_and(Walk::renews);
        arguments.add(renews).map_err(|_| Fault::bug("an argument could not be bound"))?;
        let query = sqlx::query_as_with(AssertSqlSafe(repair.to_string()), arguments);
        let (inserted, changed, ids): (i64, i64, Vec<String>) =
            self.in_time(size, query.fetch_one(connection)).await?;
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
        let size = range.len();
        let Deletes { ids, cluster_times, gone_at, .. } = &work.deletes;
        let sql = AssertSqlSafe(self.statements.delete.to_string());
        let query = sqlx::query_as(sql)
            .bind(ids.get(range.clone()).unwrap_or_default())
            .bind(cluster_times.get(range.clone()).unwrap_or_default())
            .bind(gone_at.get(range).unwrap_or_default());
        let (deleted, ids): (i64, Vec<String>) =
            self.in_time(size, query.fetch_one(connection)).await?;
        done.rows_deleted += u64::try_from(deleted).unwrap_or_default();
        if work.walk.is_some() {
            done.sample(ids);
        }
        Ok(())
    }

    /// Runs a statement about so many rows. It is cancelled if it takes longer than other tables
    /// can wait.
    pub(super) async fn in_time<T: Send>(
        &self,
        rows: usize,
        statement: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, Trouble> {
        let deadline = self.target.deadline();
        let Some(backend) = self.backend else { return about_rows(deadline, statement).await };
        let cancel = backend.cancel(self.state.pool());
        about_rows(deadline, cancelled_after(limit(rows), statement, cancel)).await
    }

    /// Runs a statement without parameters whose answer does not matter.
    pub(super) async fn plain(
        &self,
        connection: &mut PgConnection,
        sql: &'static str,
    ) -> Result<(), Trouble> {
        about_rows(self.target.deadline(), sqlx::raw_sql(sql).execute(connection)).await.map(drop)
    }

    /// Tells an open resync of the documents whose rows were not stamped anew, because they would
    /// not change or could not be written. Without that its sweep would take these documents for
    /// deleted.
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
        let older = &self.statements.older;
        self.state.keep_older(connection, beside.resync, older, &ids, beside.start).await
    }

    /// The walk's progress, with the rows it is about.
    async fn advance_walk(
        &self,
        connection: &mut PgConnection,
        walk: &Walk,
        read_until: Option<ClusterTime>,
        done: &Applied,
    ) -> Result<(), Fault> {
        let (state, id, read_until) = (self.state, walk.id, read_until.unwrap_or_default());
        let goes_on = match &walk.step {
            WalkStep::Chunk { class, after, documents_read, seen, then, .. } => {
                if let Some(seen) = seen.as_ref().filter(|seen| !seen.is_empty()) {
                    let ChunkSeen { ids, lows, highs } = seen;
                    state.note_seen(connection, id, ids, lows, highs).await?;
                }
                // Rows of a first snapshot are all new; only a repair keeps what it has seen, and
                // tells them apart.
                let inserted = if seen.is_none() { done.rows_changed } else { done.rows_inserted };
                let chunk = ChunkRead {
                    class: *class,
                    after: after.as_deref(),
                    documents_read: *documents_read,
                    read_until,
                    state: then.state(),
                    rows_inserted: inserted,
                    rows_changed: done.rows_changed - inserted,
                    sample_ids: &done.sample_ids,
                };
                state.note_chunk(connection, id, &chunk).await?
            }
            WalkStep::Swept => {
                let ids = &done.sample_ids;
                state.note_swept(connection, id, done.rows_deleted, ids, read_until).await?
            }
            WalkStep::Held { code, note, rows_to_delete } => {
                state.hold_walk(connection, id, *code, note, *rows_to_delete).await?
            }
            WalkStep::Completed => state.complete_walk(connection, id).await?,
        };
        if !goes_on {
            return Err(Fault::bug(format!("walk {id} is not under way any more")));
        }
        if walk.is_completed() {
            let until = state.read_until(connection, id).await?;
            state.settle_ahead(connection, self.stream, until).await?;
        }
        Ok(())
    }
}

/// What writes the versions of a walk's rows, as a statement's last argument; null for changes,
/// of which the statement tells.
///
/// # Errors
/// Only a bug: the encoding of an argument failed.
pub(super) fn add_operation(arguments: &mut PgArguments, work: Option<&Work>) -> Result<(), Fault> {
    let operation = work.and_then(|work| match &work.walk {
        _ if work.is_repair() => Some(VersionOperation::Resync),
        Some(_) => Some(VersionOperation::Snapshot),
        None => None,
    });
    let added = arguments.add(operation.map(VersionOperation::name));
    added.map_err(|_| Fault::bug("an operation could not be bound"))
}

/// Rows as the arguments of a statement that unnests them.
///
/// # Errors
/// Only a bug: the encoding of an argument failed.
pub fn row_arguments(
    rows: &Rows,
    range: Range<usize>,
    spec: RowSpec<'_>,
) -> Result<PgArguments, Fault> {
    let mut arguments = PgArguments::default();
    let mut read = Columns::new(rows, range);
    for kind in [ColumnType::Text].into_iter().chain(field_types(spec)) {
        arguments.add(read.next(kind)).map_err(|_| Fault::bug("a column could not be bound"))?;
    }
    Ok(arguments)
}
