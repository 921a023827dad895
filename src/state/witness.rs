//! Looks whether a followed table still has its witness, and makes a newer row the witness. Its
//! statements are those of the table `stream`.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::{StateTables, stream};
use crate::error::{Class, Code, Fault};
use crate::postgres::with_deadline;

/// The rows of one table that a transaction wrote and deleted, among which the table's witness is
/// kept or found.
#[derive(Debug, Default)]
pub struct Touched<'a> {
    /// The table's rows of documents that there are, as something to select from. A row that is
    /// marked as deleted is no witness: people delete these.
    pub living: &'a str,
    /// The ids of a few of the rows written last, of which the newest becomes the witness; empty
    /// leaves the witness as it is.
    pub written: Vec<&'a str>,
    pub deleted: &'a [String],
}

impl StateTables {
    /// Looks, in the transaction that writes the table, whether it is what it was.
    ///
    /// # Errors
    /// History lost where rows that tidemark wrote are gone from the table, or older.
    pub async fn look_at(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        touched: &Touched<'_>,
    ) -> Result<(), Fault> {
        let (schema, table) = (&self.schema, touched.living);
        let moves = !touched.written.is_empty() || !touched.deleted.is_empty();
        let sql =
            if moves { stream::moving(schema, table) } else { stream::looking(schema, table) };
        let mut query = sqlx::query_as::<_, (bool, bool)>(AssertSqlSafe(sql)).bind(stream);
        if moves {
            query = query.bind(&touched.written).bind(touched.deleted);
        }
        let looked = with_deadline(self.deadline, query.fetch_optional(&mut *connection)).await?;
        let (stands, witnessed) = looked.unwrap_or((true, true));
        if !stands {
            let message =
                "rows that tidemark wrote are gone from the table, or older than they were";
            let hint = "find out who empties or restores the table";
            return Err(Fault::new(Class::HistoryLost, Code::HistoryLost, message, hint));
        }
        if !witnessed {
            let sql = AssertSqlSafe(stream::finding_witness(schema, table));
            let query = sqlx::query(sql).bind(stream);
            with_deadline(self.deadline, query.execute(connection)).await?;
        }
        Ok(())
    }
}
