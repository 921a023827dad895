//! Looks whether a followed table still has its witness, and makes a newer row the witness. Its
//! statements are those of the table `stream`.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{StateTables, stream};
use crate::error::{Class, Code, Fault};
use crate::postgres::{Trouble, about_rows, with_deadline};

/// Nobody deletes the row until the transaction has ended; that it changes is in nobody's way.
const HELD: &str = "for key share";

/// What is known of a table's witness.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Witness {
    #[default]
    Unknown,
    /// The table was empty when it was looked for.
    Nowhere,
    /// The row with this id.
    Row(String),
}

impl Witness {
    /// Whether it may be among rows that are written or deleted. Afterwards it could not be told
    /// any more whether it had been there.
    pub fn may_be_among<'k>(&self, mut ids: impl Iterator<Item = &'k str>) -> bool {
        match self {
            // Somebody may have written a row since, which became the witness.
            Self::Unknown | Self::Nowhere => true,
            Self::Row(witness) => ids.any(|id| id == witness),
        }
    }

    pub const fn is_row(&self) -> bool {
        matches!(self, Self::Row(_))
    }
}

/// What a transaction wrote of one table, among which the table's witness is kept or found.
#[derive(Debug, Default)]
pub struct Touched<'a> {
    /// The table's rows of documents that there are, as something to select from. A row that is
    /// marked as deleted is no witness: people delete these.
    pub living: &'a str,
    /// The ids of a few of the rows written last, of which the newest becomes the witness.
    pub written: Vec<&'a str>,
    /// The witness itself may have been written or deleted, and was found before that.
    pub was_there: bool,
}

impl StateTables {
    /// Looks, in the transaction that writes the table and before it does, whether it is what it
    /// was; and sees to it that it stays so until then.
    ///
    /// # Errors
    /// Failed with history lost where rows that tidemark wrote are gone from the table, or older;
    /// refused where Postgres refuses what is asked of the table.
    pub async fn hold_witness(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        living: &str,
    ) -> Result<(), Trouble> {
        let sql = AssertSqlSafe(stream::looking(&self.schema, living, HELD));
        let query = sqlx::query_as::<_, (bool, Option<String>)>(sql).bind(stream);
        let looked = about_rows(self.deadline, query.fetch_optional(connection)).await?;
        if looked.is_some_and(|(stands, _)| !stands) { Err(gone().into()) } else { Ok(()) }
    }

    /// Looks, in the transaction that writes the table, whether it is what it was; and answers
    /// which row is the witness after that.
    ///
    /// # Errors
    /// History lost where rows that tidemark wrote are gone from the table, or older.
    pub async fn look_at(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        touched: &Touched<'_>,
    ) -> Result<Witness, Fault> {
        let (schema, table) = (&self.schema, touched.living);
        let moves = !touched.written.is_empty() || touched.was_there;
        let sql =
            if moves { stream::moving(schema, table) } else { stream::looking(schema, table, "") };
        let mut query =
            sqlx::query_as::<_, (bool, Option<String>)>(AssertSqlSafe(sql)).bind(stream);
        if moves {
            query = query.bind(&touched.written).bind(touched.was_there);
        }
        let looked = with_deadline(self.deadline, query.fetch_optional(&mut *connection)).await?;
        let Some((stands, witness)) = looked else { return Ok(Witness::Unknown) };
        if !stands {
            return Err(gone());
        }
        if let Some(witness) = witness {
            return Ok(Witness::Row(witness));
        }
        let sql = AssertSqlSafe(stream::finding_witness(schema, table));
        let query = sqlx::query_scalar(sql).bind(stream);
        let found = with_deadline(self.deadline, query.fetch_optional(connection)).await?;
        Ok(found.map_or(Witness::Nowhere, Witness::Row))
    }
}

fn gone() -> Fault {
    let message = "rows that tidemark wrote are gone from the table, or older than they were";
    let hint = "find out who empties or restores the table";
    Fault::new(Class::HistoryLost, Code::HistoryLost, message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_looked_for_before_it_may_be_written_or_deleted() {
        let touches = |witness: Witness| witness.may_be_among(["a", "b"].into_iter());
        assert!(touches(Witness::Row("b".to_owned())));
        assert!(!touches(Witness::Row("c".to_owned())));
        assert!(touches(Witness::Unknown), "it may be any row");
        assert!(touches(Witness::Nowhere), "there may be one by now");
    }
}
