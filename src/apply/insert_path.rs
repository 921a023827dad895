//! How the rows of one transaction are sent: by COPY, by one statement, or part by part.

use sqlx::postgres::PgConnection;

use super::dead_letter::DeadLetter;
use super::pace::Pace;
use super::parts::{Halving, Kind, Refused};
use super::row_writer::RowWriter;
use super::work::{Applied, Work};
use crate::postgres::Trouble;

/// Fewer rows than this are not worth COPY's round trips.
pub(super) const COPY_MIN: usize = 100;

/// How rows are sent. A path on which Postgres refuses something gives way to the next.
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

impl InsertPath {
    /// What is tried when Postgres refuses something.
    pub const fn next(self) -> Self {
        match self {
            Self::Copy => Self::Whole,
            Self::Whole | Self::Parts => Self::Parts,
        }
    }
}

impl RowWriter<'_> {
    /// Writes a piece of work inside a fenced transaction: rows, dead letters, walk.
    /// By [`InsertPath::Parts`] what Postgres refuses is looked for until more than `allowance` is
    /// found, since then the batch is given up anyhow.
    pub async fn write(
        &self,
        connection: &mut PgConnection,
        work: &Work,
        way: (InsertPath, &mut Pace),
        allowance: u64,
    ) -> Result<Applied, Trouble> {
        let mut done = Applied::default();
        let (path, pace) = way;
        let (rows, deletes) = (work.rows.len(), work.deletes.ids.len());
        let mut refused = Vec::new();
        if path == InsertPath::Parts {
            refused = Halving::new(self, work, pace, allowance).run(connection, &mut done).await?;
        } else {
            let copied = if path == InsertPath::Copy { work.fresh } else { 0 };
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
        let unchanged = crate::model::count(stored).saturating_sub(done.rows_changed);
        done.rows_unchanged = work.known + unchanged;
        let letter = |refused: &Refused| refused.letter(work, self.mapping);
        let letters: Vec<DeadLetter> = refused.iter().map(letter).collect();
        self.conclude(connection, work, &letters, &mut done).await?;
        Ok(done)
    }
}
