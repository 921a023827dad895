//! The table `watch`: which process watches for incidents, one of a service and environment.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{DEADLINE, Store};
use crate::error::Fault;
use crate::postgres::with_deadline;

impl Store {
    /// Makes this process the one that watches, for `length` from now on, on the database's clock.
    /// `false`: another one watches, whose time is not over and which is not among the `dead`.
    pub async fn hold(&self, holder: &str, length: Duration, dead: &[Uuid]) -> Result<bool, Fault> {
        let sql = AssertSqlSafe(format!(
            "insert into {0}.watch as w (service, environment, holder, nonce, expires_at) values \
             ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5)) on conflict (service, \
             environment) do update set holder = excluded.holder, nonce = excluded.nonce, \
             expires_at = excluded.expires_at where w.nonce = excluded.nonce or w.expires_at < \
             clock_timestamp() or w.nonce = any($6) returning true",
            self.schema
        ));
        let query = sqlx::query_scalar::<_, bool>(sql)
            .bind(&*self.service)
            .bind(&*self.environment)
            .bind(holder)
            .bind(self.nonce)
            .bind(length.as_secs_f64())
            .bind(dead);
        Ok(with_deadline(DEADLINE, query.fetch_optional(self.pool())).await?.is_some())
    }

    /// Gives the watch up, so that another process may take it at once.
    pub async fn leave(&self) {
        let sql = AssertSqlSafe(format!("delete from {}.watch where nonce = $1", self.schema));
        let _ = with_deadline(
            Duration::from_secs(1),
            sqlx::query(sql).bind(self.nonce).execute(self.pool()),
        )
        .await;
    }
}

/// For SQL: whether the process whose nonce is the parameter of this number is the one that
/// watches.
pub(super) fn is_watching(schema: &str, nonce: usize) -> String {
    format!("exists (select from {schema}.watch where nonce = ${nonce})")
}
