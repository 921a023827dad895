//! What a followed table is now, beside what its stream's row remembers of it.

use sqlx::{AssertSqlSafe, FromRow};

use super::StateTables;
use crate::error::Fault;
use crate::model::namespace::Table;
use crate::postgres::with_deadline;

/// The followed table as it is.
#[derive(Debug, Clone, Copy, FromRow, PartialEq, Eq)]
pub struct TableNow {
    pub oid: i64,
    /// The `_cluster_time` of the witness; `None` if it is not there.
    pub witness_time: Option<i64>,
    pub holds_rows: bool,
    /// It holds none, but tables of arrays hold elements of rows that it had.
    pub holds_orphans: bool,
}

impl StateTables {
    /// The followed table as it is now; `living` is its rows of documents that there are, as
    /// something to select from, and `orphans` selects the ids of elements without a row, if there
    /// may be any.
    ///
    /// # Errors
    /// There is none; or whatever Postgres answers.
    pub async fn table_now(
        &self,
        table: &Table,
        (living, orphans): (&str, &str),
        witness: Option<&str>,
    ) -> Result<TableNow, Fault> {
        let name = table.sql();
        let orphaned = match orphans {
            "" => "false".to_owned(),
            ids => format!(
                "case when exists (select from {living} as t) then false else exists ({ids}) end"
            ),
        };
        let sql = AssertSqlSafe(format!(
            "select $1::regclass::oid::bigint as oid, (select coalesce(t._cluster_time, 0) from \
             {living} as t where t.id = $2) as witness_time, exists (select from {living} as t) \
             as holds_rows, {orphaned} as holds_orphans"
        ));
        let query = sqlx::query_as(sql).bind(&name).bind(witness);
        with_deadline(self.deadline, query.fetch_one(&self.pool)).await
    }
}
