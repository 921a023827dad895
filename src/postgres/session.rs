//! What every session is promised, and the proof that it lasts.
//!
//! It is said by SQL rather than at the opening, where poolers refuse or drop it; and it is asked
//! for again in a message of its own: a session that answers otherwise is another one, handed out
//! by a pooler that keeps none for us. Everything is built upon these settings (the bounds on a
//! frozen leader, what a name means, prepared statements), so such a session is refused.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::call::close;
use super::connection_errors::classify;
use super::sqlstate::{POOLER, PRIMARY};
use crate::error::{Class, Code, Fault};

/// The same for all sessions of a process.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    name: Arc<str>,
    statement_timeout: Duration,
}

/// What a session says of itself: which one it is, and its settings.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    pid: i32,
    settings: String,
}

/// As the last of a message, and alone. The name comes with it, where a pooler writes its own.
macro_rules! ask {
    ($and:literal) => {
        concat!(
            "select pg_backend_pid(), concat_ws(' ', current_setting('search_path'), \
             current_setting('statement_timeout'), current_setting('lock_timeout'), \
             current_setting('idle_in_transaction_session_timeout'), \
             current_setting('plan_cache_mode'), \
             current_setting('jit'), current_setting('timezone')), \
             pg_is_in_recovery() or current_setting('transaction_read_only') = 'on'",
            $and
        )
    };
}

impl Promise {
    pub fn new(service: &str, lease: Duration) -> Self {
        Self { name: service.into(), statement_timeout: lease }
    }

    /// What sessions go by.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub const fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    /// How long a session may be silent in a transaction.
    pub fn idle_timeout(&self) -> Duration {
        self.statement_timeout / 2
    }

    /// Makes a fresh session what it is to be. Returns whether it takes writes.
    ///
    /// # Errors
    /// It does not last from one message to the next; whatever Postgres answers.
    pub async fn keep(&self, connection: &mut PgConnection) -> Result<bool, Fault> {
        // Utility statements look no name up: whatever stands in `public` is out of reach from the
        // first message on.
        let set = sqlx::AssertSqlSafe(format!(
            "set search_path = pg_catalog; {}{}",
            self.settings(),
            ask!("")
        ));
        let rows = sqlx::raw_sql(set)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| classify(&error))?;
        let row = rows.last().ok_or_else(|| Fault::bug("a select without a row"))?;
        let session = said(row)?;
        let is_read_only: bool = row.try_get(2).map_err(|error| classify(&error))?;
        let ask = sqlx::query(ask!(", set_config('application_name', $1, false)"))
            .bind(&*self.name)
            .persistent(false);
        let row = ask.fetch_one(connection).await.map_err(|error| classify(&error))?;
        // A standby is none of ours, whatever stands in front of it.
        if is_read_only || said(&row)? == session {
            Ok(!is_read_only)
        } else {
            Err(does_not_last())
        }
    }

    fn settings(&self) -> String {
        let millis = |part: f64| self.statement_timeout.mul_f64(part).as_millis().max(1);
        let (statement, lock) = (millis(1.0), millis(0.8));
        let idle = self.idle_timeout().as_millis().max(1);
        format!(
            "set statement_timeout = {statement}; set lock_timeout = {lock}; set \
             idle_in_transaction_session_timeout = {idle}; set plan_cache_mode = \
             force_custom_plan; set jit = off; set timezone = 'UTC'; "
        )
    }
}

/// Proves that sessions last, against a pooler that is idle, too: another client of it, who is in a
/// transaction, would be in this very session, or this one in another by now. Nothing is set: it
/// may be somebody else's.
///
/// # Errors
/// They do not last; whatever Postgres answers.
pub(super) async fn prove(one: &mut PgConnection, mut other: PgConnection) -> Result<(), Fault> {
    let pid = which(one, "select pg_catalog.pg_backend_pid()").await?;
    // One that takes turns hands out the next.
    let again = which(one, "select pg_catalog.pg_backend_pid()").await?;
    let others = which(&mut other, "begin; select pg_catalog.pg_backend_pid()").await?;
    let meanwhile = which(one, "select pg_catalog.pg_backend_pid()").await?;
    // One that does not take turns hands out what was handed back last.
    which(&mut other, "commit; select pg_catalog.pg_backend_pid()").await?;
    let last = which(one, "select pg_catalog.pg_backend_pid()").await?;
    close(other).await;
    let is_same = [again, meanwhile, last].iter().all(|asked| *asked == pid);
    if is_same && pid != others { Ok(()) } else { Err(does_not_last()) }
}

async fn which(connection: &mut PgConnection, ask: &'static str) -> Result<i32, Fault> {
    let asked = async {
        sqlx::raw_sql(ask).fetch_all(connection).await?.last().map(|row| row.try_get(0)).transpose()
    };
    let pid = asked.await.map_err(|error| classify(&error))?;
    pid.ok_or_else(|| Fault::bug("a select without a row"))
}

fn said(row: &PgRow) -> Result<Session, Fault> {
    let session = || Ok(Session { pid: row.try_get(0)?, settings: row.try_get(1)? });
    session().map_err(|error| classify(&error))
}

/// A standby, or a server or user that is set to read only.
pub(super) fn takes_no_writes() -> Fault {
    Fault::new(
        Class::Transient,
        Code::TargetUnreachable,
        "the server takes no writes: it is read-only",
        PRIMARY,
    )
}

fn does_not_last() -> Fault {
    let message = "a pooler stands between tidemark and postgres that hands out another session \
                   with each transaction: neither settings nor prepared statements last";
    Fault::new(Class::Halt, Code::TargetUnreachable, message, POOLER)
}
