//! The writer of one stream: opens and commits the one transaction, in which the fence is raised
//! first and the position comes last. It owns its connection, retries nothing, and knows after a
//! lost reply whether the commit landed.

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Transaction};
use tokio::sync::mpsc;

use super::dead_letter::RateWindow;
use super::insert_path::{COPY_MIN, InsertPath};
use super::pace::Pace;
use super::row_writer::RowWriter;
use super::rows::RowBuffers;
use super::statements::Statements;
use super::walk::Walk;
use super::work::{Applied, Work};
use crate::error::{Class, Code, Fault};
use crate::failpoint;
use crate::postgres::{Ending, Target, Trouble, Whose, commit, with_deadline};
use crate::settings::{Column, Record};
use crate::state::{Fence, Lease, StateTables};

/// Writes for one stream under one lease.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    state: StateTables,
    lease: Lease,
    columns: Vec<Column>,
    statements: Statements,
    rate: RateWindow,
    pace: Pace,
    connection: Option<PgConnection>,
    /// The checkpoint's revision that this writer made or met last. If the stored one is another,
    /// the database has gone back.
    made: Option<i64>,
    /// A commit whose answer was lost: the revision it was made on, and what it would have done.
    in_doubt: Option<(i64, Applied)>,
    /// How many batches are still written without COPY, after rows that were taken for new were in
    /// the table already.
    no_copy_for: u32,
    /// When the table's witness was last moved.
    witnessed: Option<Instant>,
    /// Whether the table is partitioned; asked once, before the first rows that are told apart.
    partitioned: Option<bool>,
}

const NO_COPY_BATCHES: u32 = 4;

/// The witness moves no more often than this, because moving it costs half a millisecond, and no
/// backup is so fresh that a second matters.
const WITNESS_INTERVAL: Duration = Duration::from_secs(1);

impl Writer {
    pub const fn new(
        target: Target,
        state: StateTables,
        lease: Lease,
        columns: Vec<Column>,
        statements: Statements,
        limits: Record,
    ) -> Self {
        Self {
            target,
            state,
            lease,
            columns,
            statements,
            rate: RateWindow::new(limits),
            pace: Pace::new(),
            connection: None,
            made: None,
            in_doubt: None,
            no_copy_for: 0,
            witnessed: None,
            partitioned: None,
        }
    }

    /// Begins at the revision at which the database was when what is in memory was read: on top of
    /// another one the writer writes nothing.
    #[must_use]
    pub const fn at(mut self, revision: i64) -> Self {
        self.made = Some(revision);
        self
    }

    /// Connects, if it has not yet: the first commit does not wait for it.
    pub async fn open(&mut self) -> Result<(), Fault> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        Ok(())
    }

    /// Commits a piece of work, once. After a transient error, call again with the same work: it is
    /// first found out whether the lost commit landed.
    ///
    /// # Errors
    /// Fenced; rewound; transient; a rate of dead letters that is no accident; whatever Postgres
    /// refuses, classified.
    pub async fn apply(&mut self, work: &Work) -> Result<Applied, Fault> {
        let done = match self.resolve().await? {
            Some(done) => done,
            None => self.attempt(work).await?,
        };
        self.landed(&done);
        Ok(done)
    }

    /// Commits chunks of a first snapshot as they come, in one transaction, until no more come.
    /// Nothing is kept to try again with: after an error, [`Writer::settle`], and go on from where
    /// the database says the walk is.
    ///
    /// # Errors
    /// Refused, if a row is, or is in the table already; failed as [`Writer::apply`].
    pub async fn bulk_load(
        &mut self,
        chunks: mpsc::Receiver<Work>,
        buffers: &RowBuffers,
    ) -> Result<Applied, Trouble> {
        let done = self.transact(Load::Chunks(chunks, buffers)).await?;
        self.landed(&done);
        Ok(done)
    }

    /// Waits until a commit whose answer was lost has landed or not.
    ///
    /// # Errors
    /// Fenced, transient.
    pub async fn settle(&mut self) -> Result<(), Fault> {
        self.resolve().await.map(drop)
    }

    /// Commits a piece of work if all of it can be stored; nothing is set aside.
    ///
    /// # Errors
    /// Refused, if a part of it is; failed as [`Writer::apply`].
    pub async fn apply_whole(&mut self, work: &Work) -> Result<Applied, Trouble> {
        match self.resolve().await? {
            Some(done) => Ok(done),
            None => self.transact(Load::Whole(work, InsertPath::Whole)).await,
        }
    }

    /// How many rows a statement may hold, if statements on this table have run out of time lately.
    pub const fn rows_at_once(&self) -> Option<usize> {
        self.pace.rows_max()
    }

    fn landed(&mut self, done: &Applied) {
        self.pace.committed();
        self.rate.add(done.events, &done.set_aside, done.letters_accepted);
    }

    /// Tries the insert paths in turn: COPY gives way to the upsert where rows are in the table
    /// already, and the upsert gives way to parts where Postgres refuses something. A statement
    /// that runs out of time fails the step first, so that people see it, and is halved at the next
    /// try.
    async fn attempt(&mut self, work: &Work) -> Result<Applied, Fault> {
        self.no_copy_for = self.no_copy_for.saturating_sub(1);
        let statement = work.rows.len().max(work.deletes.ids.len());
        let mut path = if !self.pace.allows(statement) {
            InsertPath::Parts
        } else if work.fresh >= COPY_MIN && self.no_copy_for == 0 {
            InsertPath::Copy
        } else {
            InsertPath::Whole
        };
        loop {
            let refusal = match self.transact(Load::Whole(work, path)).await {
                Ok(done) => return Ok(done),
                Err(Trouble::Failed(fault)) => return Err(fault),
                Err(Trouble::Refused(refusal)) => refusal,
            };
            if path == InsertPath::Copy {
                self.no_copy_for = NO_COPY_BATCHES;
            }
            path = match path {
                InsertPath::Parts => return Err(refusal.fault),
                _ if refusal.whose == Whose::Time && statement > 1 => {
                    self.pace.timed_out(statement);
                    return Err(refusal.fault);
                }
                _ if refusal.whose == Whose::Time && !self.pace.stands_alone() => {
                    return Err(refusal.fault);
                }
                InsertPath::Copy => InsertPath::Whole,
                InsertPath::Whole => InsertPath::Parts,
            };
        }
    }

    async fn transact(&mut self, load: Load<'_>) -> Result<Applied, Trouble> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let result = self.write(&mut connection, load).await;
        // On any other error the connection is dropped, and with it the transaction; but a refusal
        // says nothing against the connection, on which the rollback is queued.
        if matches!(result, Ok(_) | Err(Trouble::Refused(_))) {
            self.connection = Some(connection);
        }
        result
    }

    async fn write(
        &mut self,
        connection: &mut PgConnection,
        load: Load<'_>,
    ) -> Result<Applied, Trouble> {
        let deadline = self.target.deadline();
        let mut transaction: Transaction<'_, _> =
            with_deadline(deadline, connection.begin_with(load.begin())).await?;
        failpoint::hit("apply.begun");
        let fence = Fence::raise(&mut transaction, &self.state, &self.lease).await?;
        self.knows(fence.revision())?;
        if self.partitioned.is_none() && load.is_repair() {
            self.partitioned =
                Some(is_partitioned(&mut transaction, &self.target, &self.statements.table).await?);
        }
        let row_writer = RowWriter {
            target: &self.target,
            stream: self.lease.stream(),
            state: &self.state,
            columns: &self.columns,
            statements: &self.statements,
            moves_witness: self.witnessed.is_none_or(|at| at.elapsed() >= WITNESS_INTERVAL),
            partitioned: self.partitioned.unwrap_or_default(),
        };
        let mut done = match load {
            Load::Whole(work, path) => {
                let mut allowance = self.rate.allowance();
                if path == InsertPath::Parts {
                    let (state, stream) = (&self.state, self.lease.stream());
                    allowance += state.letters_accepted(&mut *transaction, stream).await?;
                }
                let way = (path, &mut self.pace);
                row_writer.write(&mut transaction, &fence, work, way, allowance).await?
            }
            Load::Chunks(chunks, buffers) => {
                let (rows_changed, rest) =
                    row_writer.bulk_load(&mut transaction, chunks, buffers).await?;
                let mut done = Applied { rows_changed, ..Applied::default() };
                row_writer.conclude(&mut transaction, &fence, &rest, &[], &mut done).await?;
                done
            }
        };
        let moves_witness = row_writer.moves_witness && done.rows_changed > 0;
        self.keep_the_rate(&mut transaction, &mut done).await?;
        let revision = fence.revision();
        failpoint::hit("apply.before_commit");
        match commit(deadline, transaction).await {
            Ending::Landed => {
                failpoint::hit("apply.after_commit");
                self.made = Some(revision + 1);
                if moves_witness {
                    self.witnessed = Some(Instant::now());
                }
                Ok(done)
            }
            Ending::Refused(trouble) => Err(trouble),
            Ending::Unknown(fault) => {
                self.in_doubt = Some((revision, done));
                let stream = self.lease.stream();
                tracing::warn!(stream, revision, %fault, "commit without an answer");
                let message = format!("the answer to commit {revision} was lost");
                Err(Fault::new(Class::Transient, Code::TargetUnreachable, message, "").into())
            }
        }
    }

    /// Refuses a batch with more dead letters than the rate allows, unless a person lets so many
    /// more pass; these are then used up in the same transaction.
    async fn keep_the_rate(
        &self,
        connection: &mut PgConnection,
        done: &mut Applied,
    ) -> Result<(), Fault> {
        let beyond = done.set_aside.total().saturating_sub(self.rate.allowance());
        if beyond > 0 {
            let stream = self.lease.stream();
            if self.state.letters_accepted(&mut *connection, stream).await? < beyond {
                return Err(self.rate.exceeded(&done.set_aside));
            }
            self.state.use_accepted_letters(connection, stream, beyond).await?;
            done.letters_accepted = beyond;
        }
        Ok(())
    }

    /// Postgres may go back: to a standby that had not heard of the last commits, or to what was
    /// flushed before a crash. What is in memory is then ahead of the database, and must not be
    /// written on top of it. The database is ahead of memory only by a commit whose answer was
    /// given up on. In both cases the stream is taken up anew from what the database says.
    fn knows(&self, stored: i64) -> Result<(), Fault> {
        match self.made {
            Some(made) if made != stored => Err(Fault::rewound(stored, made)),
            _ => Ok(()),
        }
    }

    /// Connects, and ends what this writer's last connection may have left behind when its wire was
    /// cut in silence: a session that still holds the stream's lock.
    async fn connect(&self) -> Result<PgConnection, Fault> {
        let mut connection = self.target.connect().await?;
        self.target.end_abandoned(&mut connection).await;
        Ok(connection)
    }

    /// Finds out whether a commit whose answer was lost has landed: the row lock that it may still
    /// hold is waited for, and then the stored revision tells.
    async fn resolve(&mut self) -> Result<Option<Applied>, Fault> {
        let Some((revision, done)) = self.in_doubt.clone() else { return Ok(None) };
        let mut connection = self.connect().await?;
        let mut transaction = with_deadline(self.target.deadline(), connection.begin()).await?;
        let fence = Fence::raise(&mut transaction, &self.state, &self.lease).await?;
        let stored = fence.revision();
        with_deadline(self.target.deadline(), transaction.rollback()).await?;
        let landed = stored == revision + 1;
        self.made = Some(revision + i64::from(landed));
        self.knows(stored)?;
        self.connection = Some(connection);
        self.in_doubt = None;
        tracing::info!(stream = self.lease.stream(), revision, landed, "commit in doubt resolved");
        Ok(landed.then_some(done))
    }
}

/// What one transaction is to hold.
enum Load<'a> {
    Whole(&'a Work, InsertPath),
    Chunks(mpsc::Receiver<Work>, &'a RowBuffers),
}

impl Load<'_> {
    /// Whether its rows are told apart.
    fn is_repair(&self) -> bool {
        matches!(self, Self::Whole(work, _) if work.walk.as_ref().is_some_and(Walk::is_repair))
    }

    fn begin(&self) -> &'static str {
        let may_be_lost = match self {
            Self::Whole(work, _) => work.walk.as_ref().is_some_and(Walk::may_be_lost),
            Self::Chunks(..) => true,
        };
        // Constraints are checked by each statement rather than by COMMIT: what is refused can be
        // found and set aside.
        if may_be_lost {
            "begin; set constraints all immediate; set local synchronous_commit = off"
        } else {
            "begin; set constraints all immediate"
        }
    }
}

async fn is_partitioned(
    connection: &mut PgConnection,
    target: &Target,
    table: &str,
) -> Result<bool, Fault> {
    let sql = "select relkind = 'p' from pg_class where oid = $1::regclass";
    let query = sqlx::query_scalar(sql).bind(table);
    with_deadline(target.deadline(), query.fetch_one(connection)).await
}
