//! Which walks can be ended where they are, and the end of one. The statements are those of the
//! table `resync`.

use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::owed_walk::is_owed;
use super::{StateTables, resync};
use crate::error::Fault;
use crate::model::resync_state::ResyncState;
use crate::postgres::with_deadline;

impl StateTables {
    /// Ends an open walk where it is. `false`: there is no such walk, or one has to be completed.
    pub(super) async fn cancel_walk(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        id: i64,
        why: &str,
    ) -> Result<bool, Fault> {
        let which = format!("id = $3 and not {}", is_owed(&resync::rows(&self.schema), "$1"));
        let query = sqlx::query_scalar(AssertSqlSafe(cancelling(&self.schema, &which)));
        let query = query.bind(stream).bind(why).bind(id);
        let is_cancelled = with_deadline(self.deadline, query.fetch_one(&mut *connection)).await?;
        if is_cancelled {
            let until = self.read_until(connection, id).await?;
            self.settle_cancelled(connection, stream, until).await?;
        }
        Ok(is_cancelled)
    }

    /// Ends a stream's open walk where it is, whatever it is: its stream is walked anew when it
    /// goes on.
    pub(super) async fn cancel_open_walk(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        why: &str,
    ) -> Result<(), Fault> {
        let query = sqlx::query(AssertSqlSafe(cancelling(&self.schema, "true")));
        let query = query.bind(stream).bind(why);
        with_deadline(self.deadline, query.execute(connection)).await.map(drop)
    }

    /// Whether a walk of the stream has to be completed, and none of its walks can be cancelled.
    pub async fn owes_a_walk(&self, stream: &str) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!("select {}", is_owed(&resync::rows(&self.schema), "$1")));
        let query = sqlx::query_scalar(sql).bind(stream);
        with_deadline(self.deadline, query.fetch_one(&self.pool)).await
    }
}

/// Ends those open walks of the stream in `$1` that are `which`, with the note in `$2`, and answers
/// whether there were any.
fn cancelling(schema: &str, which: &str) -> String {
    let (cancelled, walks) = (ResyncState::Cancelled, resync::rows(schema));
    let open = resync::may_become(cancelled);
    let forgetting = resync::forgetting(schema, "in (select id from ended)");
    format!(
        "with ended as (update {walks} set state = '{cancelled}', ended_at = now(), note = \
         $2 where stream = $1 and {open} and {which} returning id), {forgetting} select count(*) > \
         0 from ended"
    )
}
