//! Voids the times in a table that mean nothing any more: of rows stamped by another cluster, or by
//! this one before it was taken back.

use sqlx::{AssertSqlSafe, Connection};

use super::{Fence, Lease, StateTables};
use crate::error::Fault;
use crate::model::namespace::Table;
use crate::model::position::ClusterTime;
use crate::postgres::{close, with_deadline};

/// Rows looked at in one transaction.
const ROWS_AT_ONCE: i64 = 20_000;

impl StateTables {
    /// Voids the time of each row that is stamped at `from` or later, because the source's own
    /// times are still below it: no change and no sweep of that source would count against such a
    /// stamp. It goes through the table piece by piece, each a transaction; after an error it is
    /// begun anew.
    ///
    /// # Errors
    /// Fenced, where another holds the group.
    pub async fn void_times(
        &self,
        lease: &Lease,
        table: &Table,
        from: ClusterTime,
    ) -> Result<(), Fault> {
        let (deadline, table) = (self.deadline, table.sql());
        let sql = format!(
            "with part as (select t.id, t._cluster_time from {table} as t where $1::text is null \
             or t.id > $1 order by t.id limit {ROWS_AT_ONCE}), void as (update {table} as t set \
             _cluster_time = 0 from part as p where t.id = p.id and p._cluster_time >= $2) select \
             max(id) from part"
        );
        let mut connection = self.target.connect().await?;
        let mut after: Option<String> = None;
        loop {
            let mut transaction = with_deadline(deadline, connection.begin()).await?;
            Fence::raise(&mut transaction, self, lease).await?;
            let part = sqlx::query_scalar::<_, Option<String>>(AssertSqlSafe(sql.clone()));
            let part = part.bind(after.take()).bind(from.to_sql());
            after = with_deadline(deadline, part.fetch_one(&mut *transaction)).await?;
            with_deadline(deadline, transaction.commit()).await?;
            if after.is_none() {
                break;
            }
        }
        close(connection).await;
        Ok(())
    }
}
