//! Which documents the table has as they are, told by what tidemark wrote: a hash costs Postgres a fraction of a
//! document, and a document that is known need not be encoded.

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryScalar;

use super::statements::Statements;
use crate::error::Fault;
use crate::postgres::{Target, within};

/// Asks one table, on a connection of its own: nothing is written, and the writer is not held up.
#[derive(Debug)]
pub struct Known {
    target: Target,
    statements: Statements,
    connection: Option<PgConnection>,
    /// The table sorts ids as the walk does, so that documents found in a row are one stretch of its index. Found out
    /// on the way: Postgres sorts ids as text, under the column's collation.
    in_order: bool,
}

/// Where a document is among those asked about, its id, its hash.
pub type Suspect<'a> = (usize, &'a str, i64);

impl Known {
    pub const fn new(target: Target, statements: Statements) -> Self {
        Self { target, statements, connection: None, in_order: true }
    }

    /// Whether the rows from one id to another are these documents and no others. Two sets of documents with one count
    /// and one sum of hashes are taken for the same, as two documents with one hash are.
    ///
    /// # Errors
    /// Whatever Postgres answers, classified.
    pub async fn is_stretch(&mut self, low: &str, high: &str, hashes: &[i64]) -> Result<bool, Fault> {
        if !self.in_order {
            return Ok(false);
        }
        let mut connection = self.connect().await?;
        // One row more tells that there are too many.
        let limit = i64::try_from(hashes.len()).unwrap_or(i64::MAX).saturating_add(1);
        let query = sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(self.statements.stretch.to_string()));
        let query = query.bind(low).bind(high).bind(limit);
        let (rows, sum) = within(self.target.deadline(), query.fetch_one(&mut connection)).await?;
        self.connection = Some(connection);
        Ok(usize::try_from(rows) == Ok(hashes.len()) && sum == hashes.iter().fold(0, |sum, hash| sum ^ hash))
    }

    /// The places, in ascending order, of those that no row has with its hash. Begun again after an error.
    ///
    /// # Errors
    /// Whatever Postgres answers, classified.
    pub async fn unknown(&mut self, documents: &[Suspect<'_>]) -> Result<Vec<usize>, Fault> {
        let (Some((_, first, _)), Some((_, last, _))) = (documents.first(), documents.last()) else {
            return Ok(Vec::new());
        };
        let mut connection = self.connect().await?;
        let mut suspects = documents.to_vec();
        if self.in_order {
            // Rows among them that the source has no more are looked through, too.
            let limit = i64::try_from(2 * documents.len()).unwrap_or(i64::MAX);
            let query = ask(&self.statements.unknown_between, &suspects).bind(first).bind(last).bind(limit);
            suspects = self.answer(&mut connection, query, &suspects).await?;
        }
        let suspected = suspects.len();
        if suspected > 0 {
            let query = ask(&self.statements.unknown, &suspects);
            suspects = self.answer(&mut connection, query, &suspects).await?;
        }
        self.connection = Some(connection);
        // Not found between first and last, and there all the same.
        let missed = suspected - suspects.len();
        self.in_order = self.in_order && missed * 2 < documents.len();
        Ok(suspects.iter().map(|(place, ..)| *place).collect())
    }

    /// The connection it asked on, for who comes after it.
    pub fn into_connection(self) -> Option<PgConnection> {
        self.connection
    }

    /// Taken out until it has answered: one that failed is not used again.
    async fn connect(&mut self) -> Result<PgConnection, Fault> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.target.connect().await,
        }
    }

    async fn answer<'a>(
        &self,
        connection: &mut PgConnection,
        query: QueryScalar<'_, sqlx::Postgres, Vec<i64>, PgArguments>,
        asked: &[Suspect<'a>],
    ) -> Result<Vec<Suspect<'a>>, Fault> {
        let mut places = within(self.target.deadline(), query.fetch_one(connection)).await?;
        places.sort_unstable();
        let from_one = places.iter().filter_map(|place| usize::try_from(place - 1).ok());
        Ok(from_one.filter_map(|place| asked.get(place).copied()).collect())
    }
}

fn ask<'q>(sql: &str, suspects: &[Suspect<'q>]) -> QueryScalar<'q, sqlx::Postgres, Vec<i64>, PgArguments> {
    let (ids, hashes): (Vec<&str>, Vec<i64>) = suspects.iter().map(|(_, id, hash)| (*id, *hash)).unzip();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).bind(ids).bind(hashes)
}
