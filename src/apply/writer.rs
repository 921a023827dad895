//! The writer of one group: opens and commits the one transaction, in which the fence is raised
//! first. The position moves with it, or last where it is not known before the rows are. The writer
//! owns its connection, retries nothing, and knows after a lost reply whether the commit landed.

mod doubt;
mod looks;
mod together;
mod write_attempt;

use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction};
use tokio::sync::mpsc;

use super::insert_path::InsertPath;
use super::load::{Load, PIECES_TIME_MAX, next_piece};
use super::rows::RowBuffers;
use super::setback::{Met, Setback};
use super::statement_limit::StatementLimit;
use super::table_writer::{Ends, TableWriter};
use super::work::{Applied, Commit, Work};
use crate::error::{Class, Code, Fault};
use crate::failpoint;
use crate::postgres::{Backend, Ending, Target, Trouble, commit, with_deadline};
use crate::spans::Span;
use crate::state::{Fence, Lease, StateTables};

pub use together::{Calls, Together};

/// Writes for one group under one lease.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    state: StateTables,
    lease: Lease,
    /// In the order of the group's streams.
    tables: Vec<TableWriter>,
    connection: Option<PgConnection>,
    /// The process that serves the connection.
    backend: Option<Backend>,
    limit: StatementLimit,
    /// The checkpoint's revision that this writer made or met last. If the stored one is another,
    /// the database has gone back.
    made: Option<i64>,
    /// How idle positions are committed with those of the process's other groups, if it has any.
    together: Option<Together>,
    /// A commit whose answer was lost: the revision it was made on, and what it would have done.
    in_doubt: Option<(i64, Vec<Applied>)>,
}

impl Writer {
    pub const fn new(
        target: Target,
        state: StateTables,
        lease: Lease,
        tables: Vec<TableWriter>,
    ) -> Self {
        let limit = StatementLimit::new(tables.len());
        let (connection, backend, made, together, in_doubt) = (None, None, None, None, None);
        Self { target, state, lease, tables, connection, backend, limit, made, together, in_doubt }
    }

    /// Begins at the revision at which the database was when what is in memory was read: on top of
    /// another one the writer writes nothing.
    #[must_use]
    pub const fn at(mut self, revision: i64) -> Self {
        self.made = Some(revision);
        self
    }

    #[must_use]
    pub fn with(mut self, together: Option<Together>) -> Self {
        self.together = together;
        self
    }

    /// Connects, if it has not yet: the first commit does not wait for it.
    pub async fn open(&mut self) -> Result<(), Fault> {
        if self.connection.is_none() {
            self.connection = Some(self.connect().await?);
        }
        Ok(())
    }

    /// Commits, once; what came of each work, in their order. After a transient error, call again
    /// with the same: it is first found out whether the lost commit landed.
    ///
    /// # Errors
    /// Fenced; rewound; transient; a rate of dead letters that is no accident; whatever Postgres
    /// refuses, classified, and of which table.
    pub async fn apply(&mut self, commit: &Commit) -> Result<Vec<Applied>, Setback> {
        let done = match self.resolve().await? {
            Some(done) => done,
            None if self.commit_together(commit).await? => Vec::new(),
            None => self.attempt(commit).await?,
        };
        self.landed(commit.works.iter().map(|work| work.stream), &done);
        Ok(done)
    }

    /// Commits chunks of a first snapshot of one stream as they come, in one transaction, until no
    /// more come. Nothing is kept to try again with: after an error, [`Writer::settle`], and go on
    /// from where the database says the walk is.
    ///
    /// # Errors
    /// Refused, if a row is, or is in the table already; failed as [`Writer::apply`].
    pub async fn bulk_load(
        &mut self,
        stream: usize,
        chunks: mpsc::Receiver<Work>,
        buffers: &RowBuffers,
    ) -> Result<Applied, Trouble> {
        let load = Load::Chunks(stream, chunks, buffers);
        self.limit.decide(Instant::now());
        let done = self.transact(load).await.map_err(|met| met.trouble)?;
        self.landed([stream].into_iter(), &done);
        Ok(done.into_iter().next().unwrap_or_default())
    }

    /// Commits pieces of what the source committed at one time as they come, in one transaction:
    /// the last is the one with a position. What came of each stream's, in the order of the group.
    /// Nothing is kept to try again with.
    ///
    /// # Errors
    /// No more pieces came before the last; else as [`Writer::apply`].
    pub async fn apply_pieces(
        &mut self,
        pieces: mpsc::Receiver<Commit>,
    ) -> Result<Vec<Applied>, Setback> {
        self.resolve().await?;
        let done = self
            .transact(Load::Pieces(pieces))
            .await
            .map_err(|met| Setback::of(met.work, met.trouble.into()))?;
        self.landed(0..done.len(), &done);
        Ok(done)
    }

    /// Waits until a commit whose answer was lost has landed or not.
    ///
    /// # Errors
    /// Fenced, transient.
    pub async fn settle(&mut self) -> Result<(), Fault> {
        self.resolve().await.map(drop)
    }

    /// Commits a work if all of it can be stored; nothing is set aside.
    ///
    /// # Errors
    /// Refused, if a part of it is; failed as [`Writer::apply`].
    pub async fn apply_whole(&mut self, commit: &Commit) -> Result<(), Trouble> {
        if self.resolve().await?.is_some() {
            return Ok(());
        }
        let paths = vec![InsertPath::Whole; commit.works.len()];
        self.transact(Load::Whole(commit, &paths)).await.map(drop).map_err(|met| met.trouble)
    }

    /// How many rows a statement on a stream's table may hold, if statements on it have run out of
    /// time lately.
    pub fn rows_at_once(&self, stream: usize) -> Option<usize> {
        self.tables.get(stream).and_then(TableWriter::rows_at_once)
    }

    /// The server is slow: for a while statements may take as long as for a group of one table.
    pub fn lift_limit(&mut self) {
        self.limit.lift(Instant::now());
    }

    fn landed(&mut self, streams: impl Iterator<Item = usize>, done: &[Applied]) {
        for (stream, done) in streams.zip(done) {
            if let Some(table) = self.tables.get_mut(stream) {
                table.landed(done);
            }
        }
    }

    fn table(&mut self, stream: usize) -> Result<&mut TableWriter, Fault> {
        self.tables.get_mut(stream).ok_or_else(|| Fault::bug("a work of no stream of the group"))
    }

    async fn transact(&mut self, load: Load<'_>) -> Result<Vec<Applied>, Met> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut span = load.part("apply");
        let result = self.write(&mut connection, load, &span).await;
        if result.is_err() {
            span.fail();
        }
        // On any other error the connection is dropped, and with it the transaction; but a refusal
        // says nothing against the connection. The rollback that is queued on it is sent: what the
        // transaction holds locked may be looked at next.
        let is_in_order = match &result {
            Ok(_) => true,
            Err(Met { trouble: Trouble::Refused(_), .. }) => {
                with_deadline(self.target.deadline(), connection.ping()).await.is_ok()
            }
            Err(_) => false,
        };
        self.connection = is_in_order.then_some(connection);
        result
    }

    async fn write(
        &mut self,
        connection: &mut PgConnection,
        load: Load<'_>,
        span: &Span,
    ) -> Result<Vec<Applied>, Met> {
        let deadline = self.target.deadline();
        let mut transaction: Transaction<'_, _> =
            with_deadline(deadline, connection.begin_with(load.begin(self.tables.len()))).await?;
        failpoint::hit("apply.begun");
        let (lease, begun) = (self.lease.clone(), Instant::now());
        let fence = match &load {
            Load::Whole(commit, _) => {
                let after = commit.position.as_ref();
                Fence::raise_and_advance(&mut transaction, &self.state, &lease, after).await?
            }
            _ => Fence::raise(&mut transaction, &self.state, &lease).await?,
        };
        let answer = begun.elapsed();
        self.knows(fence.revision())?;
        let done = match load {
            Load::Whole(commit, paths) => {
                self.write_works(&mut transaction, commit, paths, answer).await?
            }
            Load::Pieces(pieces) => self.write_pieces(&mut transaction, &fence, pieces).await?,
            Load::Chunks(stream, chunks, buffers) => {
                self.write_chunks(&mut transaction, &fence, stream, chunks, buffers).await?
            }
        };
        let revision = fence.revision();
        failpoint::hit("apply.before_commit");
        let landing = span.part("commit");
        let ending = commit(deadline, transaction).await;
        drop(landing);
        match ending {
            Ending::Landed => {
                failpoint::hit("apply.after_commit");
                self.made = Some(revision + 1);
                Ok(done)
            }
            Ending::Refused(trouble) => Err(Met { work: None, stream: None, trouble }),
            Ending::Unknown(fault) => {
                let group = self.lease.group();
                tracing::warn!(group, revision, %fault, "commit without an answer");
                Err(self.doubts(revision, done).into())
            }
        }
    }

    async fn write_works(
        &mut self,
        transaction: &mut Transaction<'_, Postgres>,
        commit: &Commit,
        paths: &[InsertPath],
        answer: Duration,
    ) -> Result<Vec<Applied>, Met> {
        // Pieces have their own time, all together.
        let limited = self.limited().filter(|_| answer > Duration::ZERO);
        let ends =
            Ends { target: &self.target, state: &self.state, backend: limited.as_ref(), answer };
        let mut all = Vec::with_capacity(commit.works.len());
        self.look_before(ends, transaction, commit).await?;
        for (place, (work, path)) in commit.works.iter().zip(paths).enumerate() {
            let Some(table) = self.tables.get_mut(work.stream) else {
                return Err(Fault::bug("a work of no stream of the group").into());
            };
            let written = table.write(ends, transaction, work, *path).await;
            let met = |trouble| Met { work: Some(place), stream: None, trouble };
            all.push(written.map_err(met)?);
        }
        self.look(ends, transaction, commit).await?;
        for (stream, fault) in &commit.parked {
            if let Some(table) = self.tables.get(*stream) {
                let stream = table.stream();
                self.state.park(transaction, stream, fault, commit.after).await?;
            }
        }
        if let Some(amid) = commit.amid {
            let streams: Vec<&str> = self.tables.iter().map(TableWriter::stream).collect();
            self.state.note_ahead(transaction, &streams, amid).await?;
        }
        Ok(all)
    }

    /// What is refused stands alone under a savepoint of its own: the pieces before it stay.
    async fn write_pieces(
        &mut self,
        transaction: &mut Transaction<'_, Postgres>,
        fence: &Fence<'_>,
        mut pieces: mpsc::Receiver<Commit>,
    ) -> Result<Vec<Applied>, Met> {
        let begun = Instant::now();
        let mut all = vec![Applied::default(); self.tables.len()];
        while let Some(commit) = next_piece(&self.target, transaction, &mut pieces).await? {
            let paths = vec![InsertPath::Parts; commit.works.len()];
            let of = |place: Option<usize>| Some(commit.works.get(place?)?.stream);
            let written = self.write_works(transaction, &commit, &paths, Duration::ZERO).await;
            let done = written.map_err(|met| Met { work: of(met.work), ..met })?;
            for (work, done) in commit.works.iter().zip(done) {
                if let Some(all) = all.get_mut(work.stream) {
                    all.add(done);
                }
            }
            if commit.position.is_some() {
                fence.advance(transaction, commit.position.as_ref()).await?;
                return Ok(all);
            }
            if begun.elapsed() > PIECES_TIME_MAX {
                let message = format!(
                    "one transaction of the source was not written within {PIECES_TIME_MAX:?}"
                );
                let hint = "see what holds the tables up";
                return Err(Fault::new(Class::Transient, Code::TargetSlow, message, hint).into());
            }
        }
        let message = "the source's transaction was not read to its end";
        Err(Fault::new(Class::Transient, Code::SourceUnreachable, message, "").into())
    }

    async fn write_chunks(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        fence: &Fence<'_>,
        stream: usize,
        chunks: mpsc::Receiver<Work>,
        buffers: &RowBuffers,
    ) -> Result<Vec<Applied>, Met> {
        let Some(table) = self.tables.get(stream) else {
            return Err(Fault::bug("chunks of no stream of the group").into());
        };
        let (limited, answer) = (self.limited(), Duration::ZERO);
        let (target, state, backend) = (&self.target, &self.state, limited.as_ref());
        let ends = Ends { target, state, backend, answer };
        // COPY may bring the very row that is the witness.
        let met = |trouble| Met { work: Some(0), stream: None, trouble };
        table.hold_witness(ends, transaction).await.map_err(met)?;
        let row_writer = table.row_writer(ends, true);
        let loaded = row_writer.bulk_load(transaction, chunks, buffers).await;
        let (rows_changed, rest) = loaded.map_err(met)?;
        let mut done = Applied { rows_changed, ..Applied::default() };
        row_writer.conclude(transaction, &rest, &[], &mut done).await?;
        table.keep_the_rate(&self.state, transaction, &mut done).await?;
        fence.advance(transaction, None).await?;
        Ok(vec![done])
    }

    /// Connects, and ends what this writer's last connection may have left behind when its wire was
    /// cut in silence: a session that still holds the group's lock.
    async fn connect(&mut self) -> Result<PgConnection, Fault> {
        let mut connection = self.target.connect().await?;
        self.target.end_abandoned(&mut connection).await;
        // Without it a statement has its own end alone.
        self.backend = Backend::of(&mut connection).await.unwrap_or_else(|fault| {
            tracing::warn!("statements that take long cannot be cancelled: {fault}");
            None
        });
        Ok(connection)
    }

    /// The process of which a statement is cancelled that takes long, if one is to be.
    fn limited(&self) -> Option<Backend> {
        self.backend.clone().filter(|_| self.limit.is_on())
    }
}
