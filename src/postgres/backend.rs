//! The server's process behind a session: another session can have its statement cancelled.

use std::time::Duration;

use sqlx::postgres::PgConnection;

use super::call::with_deadline;
use super::pool::Pool;
use crate::error::Fault;

/// A cancellation that takes longer than this comes too late to be of use.
const DEADLINE: Duration = Duration::from_secs(5);

/// Which process it is; a number alone may be another's by now, or another host's.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    pid: i32,
    started: f64,
}

impl Backend {
    /// The one behind a session; `None` where its role may not see what its login is at.
    ///
    /// # Errors
    /// Whatever Postgres answers.
    pub async fn of(connection: &mut PgConnection) -> Result<Option<Self>, Fault> {
        let sql = "select pid, extract(epoch from backend_start)::float8 from pg_stat_activity \
                   where pid = pg_backend_pid()";
        let asked = sqlx::query_as(sql).fetch_one(connection);
        let (pid, started): (i32, Option<f64>) = with_deadline(DEADLINE, asked).await?;
        Ok(started.map(|started| Self { pid, started }))
    }

    /// Has its statement cancelled, if it has lasted: a request that comes late ends none of its
    /// later statements, nor a COMMIT that waits for a standby. That it cannot be asked for is
    /// said, and no error: the statement has its own end.
    pub async fn cancel(&self, pool: &Pool) {
        let sql = "select pg_cancel_backend(pid) from pg_stat_activity where pid = $1 and \
                   extract(epoch from backend_start)::float8 = $2 and state = 'active' and \
                   query_start < clock_timestamp() - interval '2 s' and wait_event is distinct \
                   from 'SyncRep'";
        let query = sqlx::query(sql).bind(self.pid).bind(self.started);
        if let Err(fault) = with_deadline(DEADLINE, query.execute(pool)).await {
            tracing::warn!("a statement that takes long cannot be cancelled: {fault}");
        }
    }
}
