//! Which documents the table holds already as they are, told by the hashes that tidemark wrote
//! beside its rows: to send a hash costs Postgres a fraction of what a document does, and a
//! document that the table holds need not be encoded.

use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::QueryScalar;

use super::statements::Statements;
use crate::error::Fault;
use crate::postgres::{Target, with_deadline};

/// Asks one table for its hashes. The questions go by a connection of their own: they write
/// nothing, and the writer need not wait for them.
#[derive(Debug)]
pub struct Checksums {
    target: Target,
    statements: Statements,
    connection: Option<PgConnection>,
    /// Whether the table sorts ids as the walk does, so that documents found one after the other
    /// are one segment of its index. It is taken for true until the answers show otherwise, because
    /// Postgres sorts ids as text, under the column's collation.
    in_order: bool,
}

/// Rows that follow each other in the table's order of ids, with none between them left out.
#[derive(Debug, Clone)]
pub struct Segment {
    pub first: String,
    pub last: String,
    pub rows: i64,
    /// The exclusive or of the rows' hashes.
    pub hashes: i64,
}

impl Segment {
    /// Whether it is these documents and no others. Two sets of documents with one count and one
    /// exclusive or of hashes are taken for the same, as two documents with one hash are.
    pub fn is(&self, hashes: &[i64]) -> bool {
        usize::try_from(self.rows) == Ok(hashes.len())
            && self.hashes == hashes.iter().fold(0, |all, hash| all ^ hash)
    }
}

/// One document asked about: its place among them, its id, its hash.
pub type Candidate<'a> = (usize, &'a str, i64);

impl Checksums {
    pub const fn new(target: Target, statements: Statements) -> Self {
        Self { target, statements, connection: None, in_order: true }
    }

    /// Connects, if it has not yet: what is asked later does not wait for it.
    pub async fn open(&mut self) -> Result<(), Fault> {
        self.connection = Some(self.connect().await?);
        Ok(())
    }

    /// The segment of at most `rows` rows that comes after the id `after`; `None` if no row does,
    /// or if the table sorts otherwise than the source.
    pub async fn segment(&mut self, after: &str, rows: usize) -> Result<Option<Segment>, Fault> {
        if !self.in_order {
            return Ok(None);
        }
        let mut connection = self.connect().await?;
        let query = sqlx::query_as(AssertSqlSafe(self.statements.segment.to_string()));
        let query = query.bind(after).bind(i64::try_from(rows).unwrap_or(i64::MAX));
        let answer: (Option<String>, Option<String>, i64, i64) =
            with_deadline(self.target.deadline(), query.fetch_one(&mut connection)).await?;
        self.connection = Some(connection);
        let (first, last, rows, hashes) = answer;
        Ok(first.zip(last).map(|(first, last)| Segment { first, last, rows, hashes }))
    }

    /// Returns the places, in ascending order, of the documents for which no row has both id and
    /// hash. After an error the whole question may be asked again: the connection is then a new
    /// one.
    pub async fn unknown(&mut self, documents: &[Candidate<'_>]) -> Result<Vec<usize>, Fault> {
        let (Some((_, first, _)), Some((_, last, _))) = (documents.first(), documents.last())
        else {
            return Ok(Vec::new());
        };
        let mut connection = self.connect().await?;
        let mut suspects = documents.to_vec();
        if self.in_order {
            // Twice as many rows, because those that the source has deleted lie among them and are
            // read as well.
            let limit = i64::try_from(2 * documents.len()).unwrap_or(i64::MAX);
            let query =
                ask(&self.statements.unknown_between, &suspects).bind(first).bind(last).bind(limit);
            suspects = self.answer(&mut connection, query, &suspects).await?;
        }
        let suspected = suspects.len();
        if suspected > 0 {
            let query = ask(&self.statements.unknown, &suspects);
            suspects = self.answer(&mut connection, query, &suspects).await?;
        }
        self.connection = Some(connection);
        // These were not found between the first id and the last, and are in the table all the
        // same: it sorts otherwise.
        let missed = suspected - suspects.len();
        self.in_order = self.in_order && missed * 2 < documents.len();
        Ok(suspects.iter().map(|(place, ..)| *place).collect())
    }

    /// Gives up the connection it asked on, so that whoever asks next need not make one.
    pub fn into_connection(self) -> Option<PgConnection> {
        self.connection
    }

    /// Takes the connection out, to be put back once it has answered, so that one that failed is
    /// not used again.
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
        asked: &[Candidate<'a>],
    ) -> Result<Vec<Candidate<'a>>, Fault> {
        let mut places = with_deadline(self.target.deadline(), query.fetch_one(connection)).await?;
        places.sort_unstable();
        let from_one = places.iter().filter_map(|place| usize::try_from(place - 1).ok());
        Ok(from_one.filter_map(|place| asked.get(place).copied()).collect())
    }
}

fn ask<'q>(
    sql: &str,
    suspects: &[Candidate<'q>],
) -> QueryScalar<'q, sqlx::Postgres, Vec<i64>, PgArguments> {
    let (ids, hashes): (Vec<&str>, Vec<i64>) =
        suspects.iter().map(|(_, id, hash)| (*id, *hash)).unzip();
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).bind(ids).bind(hashes)
}
