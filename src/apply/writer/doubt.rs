//! What a writer knows of what it committed: of a commit whose answer was lost it finds out whether
//! it landed; and on a database that is not as it left it it writes nothing.

use sqlx::Connection;

use super::Writer;
use crate::apply::table_writer::TableWriter;
use crate::apply::work::Applied;
use crate::error::{Class, Code, Fault};
use crate::postgres::with_deadline;
use crate::state::Fence;

impl Writer {
    /// The answer to a commit was lost.
    pub(super) fn doubts(&mut self, revision: i64, done: Vec<Applied>) -> Fault {
        self.in_doubt = Some((revision, done));
        self.tables.iter_mut().for_each(TableWriter::forget_witness);
        let message = format!("the answer to commit {revision} was lost");
        Fault::new(Class::Transient, Code::TargetUnreachable, message, "")
    }

    /// Postgres may go back: to a standby that had not heard of the last commits, or to what was
    /// flushed before a crash. What is in memory is then ahead of the database, and must not be
    /// written on top of it. The database is ahead of memory only by a commit whose answer was
    /// given up on. In both cases the group is taken up anew from what the database says.
    pub(super) fn knows(&self, stored: i64) -> Result<(), Fault> {
        match self.made {
            Some(made) if made != stored => Err(Fault::rewound(stored, made)),
            _ => Ok(()),
        }
    }

    /// Finds out whether a commit whose answer was lost has landed: the row lock that it may still
    /// hold is waited for, and then the stored revision tells.
    pub(super) async fn resolve(&mut self) -> Result<Option<Vec<Applied>>, Fault> {
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
        tracing::info!(group = self.lease.group(), revision, landed, "commit in doubt resolved");
        Ok(landed.then_some(done))
    }
}
