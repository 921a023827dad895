//! The connection to Postgres: how it is made, what deadline every call has, and how its errors are classified.
//!
//! Error texts of Postgres may quote values, so for errors about data only the code and names are kept.

pub mod ddl;
mod options;
mod password;
mod state;
mod tls;

use std::future::Future;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Postgres, Transaction};

use crate::error::{Class, Code, Fault, refused_certificate};
use crate::model::owner::Owner;
use crate::settings::Settings;

use password::Logins;
use state::Answer;
pub use state::{Refusal, Trouble, Whose};

/// How to reach the target, and for how long to wait for it.
#[derive(Debug, Clone)]
pub struct Target {
    options: PgConnectOptions,
    logins: Logins,
    service: String,
    lease: Duration,
    owner: Owner,
    /// Longer than the server's own `statement_timeout`, so that the server's answer usually comes first.
    deadline: Duration,
}

impl Target {
    /// Session timeouts end what a frozen client left behind within the lease's length.
    ///
    /// # Errors
    /// The URL cannot be parsed; it is not repeated, because it may hold a password.
    pub fn new(settings: &Settings) -> Result<Self, Fault> {
        let first = options::hosts(settings)?.into_iter().next().ok_or_else(no_host)?;
        let (service, lease) = (settings.service.clone(), settings.lease.duration);
        Ok(Self {
            options: dressed(first, &service, lease),
            logins: Logins::new(settings),
            service,
            lease,
            owner: settings.owner(),
            deadline: lease + Duration::from_secs(5),
        })
    }

    /// `host:port/database as user`: an allowlist, for messages.
    pub fn shown(&self) -> String {
        let database = self.options.get_database().unwrap_or("(default)");
        format!("{}:{}/{database} as {}", self.options.get_host(), self.options.get_port(), self.options.get_username())
    }

    /// Whose daemon this is.
    pub const fn owner(&self) -> &Owner {
        &self.owner
    }

    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// Whatever keeps it from being made, classified.
    pub async fn connect(&self) -> Result<PgConnection, Fault> {
        let first = self.logins.now().await?.into_iter().next().ok_or_else(no_host)?;
        within(Duration::from_secs(10), dressed(first, &self.service, self.lease).connect()).await
    }

    /// Ends what a frozen client, or a wire cut in silence, left in the middle of a COPY or of a message. Postgres
    /// interrupts no such wait, neither by `statement_timeout` nor by any other, and its transaction would keep a
    /// stream locked for ever. Only this service's own sessions, whose statement is older than any may get.
    ///
    /// Not being allowed to is said, and no error.
    pub async fn end_abandoned(&self, connection: &mut PgConnection) {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
                   and usename = current_user and application_name = current_setting('application_name') \
                   and state = 'active' and wait_event = 'ClientRead' \
                   and query_start < clock_timestamp() - current_setting('statement_timeout')::interval";
        match within(self.deadline, sqlx::query(sql).execute(connection)).await.map(|ended| ended.rows_affected()) {
            Ok(0) => {}
            Ok(sessions) => tracing::warn!(sessions, "ended sessions whose client has been silent in mid-statement"),
            Err(fault) => tracing::warn!("sessions of silent clients cannot be ended: {fault}"),
        }
    }

    /// A small pool for what is not on the data path. Connects when first used.
    pub fn pool(&self, connections: u32) -> PgPool {
        PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(5))
            .test_before_acquire(false)
            .connect_lazy_with(self.options.clone())
    }
}

/// What is asked of every session.
fn dressed(host: PgConnectOptions, service: &str, lease: Duration) -> PgConnectOptions {
    let millis = |duration: Duration| duration.as_millis().max(1).to_string();
    host.application_name(service)
        .options([
            ("statement_timeout", millis(lease)),
            ("lock_timeout", millis(lease.mul_f64(0.8))),
            ("idle_in_transaction_session_timeout", millis(lease.mul_f64(0.5))),
            ("plan_cache_mode", "force_custom_plan".to_owned()),
            ("jit", "off".to_owned()),
            ("timezone", "UTC".to_owned()),
        ])
        .disable_statement_logging()
}

fn no_host() -> Fault {
    Fault::bug("target.url names no host")
}

/// Runs a call under a client-side deadline: sqlx sets no keepalive, and a cut wire says nothing.
///
/// # Errors
/// The call's own, classified, or the deadline's.
pub async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, Fault> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result.map_err(|error| classify(&error)),
        Err(_) => Err(no_answer(deadline)),
    }
}

/// The same for a statement about rows, of which one may be at fault.
///
/// # Errors
/// Refused, if a part of the rows may pass; else as [`within`].
pub async fn about_rows<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, Trouble> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => result.map_err(|error| trouble(&error)),
        Err(_) => Err(Trouble::Failed(no_answer(deadline))),
    }
}

fn trouble(error: &sqlx::Error) -> Trouble {
    let refusal = match error {
        sqlx::Error::Database(answered) => Answer::of(answered.downcast_ref()).refusal(),
        _ => None,
    };
    refusal.map_or_else(|| Trouble::Failed(classify(error)), Trouble::Refused)
}

/// How a transaction ended.
#[derive(Debug)]
pub enum Ending {
    Landed,
    /// The server answered: it did not land.
    Refused(Trouble),
    /// No answer: whether it landed has to be found out.
    Unknown(Fault),
}

/// Commits. An SQLSTATE is an answer; a broken wire, or a server that goes away in the middle, is
/// none.
pub async fn commit(deadline: Duration, transaction: Transaction<'_, Postgres>) -> Ending {
    match tokio::time::timeout(deadline, transaction.commit()).await {
        Ok(Ok(())) => Ending::Landed,
        Ok(Err(error)) => match &error {
            sqlx::Error::Database(answered) if !Answer::of(answered.downcast_ref()).ends_the_session() => {
                Ending::Refused(trouble(&error))
            }
            _ => Ending::Unknown(classify(&error)),
        },
        Err(_) => Ending::Unknown(no_answer(deadline)),
    }
}

fn no_answer(deadline: Duration) -> Fault {
    let message = format!("no answer from postgres within {deadline:?}");
    Fault::new(Class::Transient, Code::TargetUnreachable, message, "")
}

/// Closes without waiting for a server that may be gone.
pub async fn close(connection: PgConnection) {
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
}

/// Sorts a Postgres error. What the server answered is sorted by its SQLSTATE.
pub fn classify(error: &sqlx::Error) -> Fault {
    let transient = |message: String| Fault::new(Class::Transient, Code::TargetUnreachable, message, "");
    match error {
        sqlx::Error::Database(answered) => Answer::of(answered.downcast_ref()).fault(),
        sqlx::Error::Io(io) => match refused_certificate(&io.to_string()) {
            Some(why) => Fault::new(
                Class::Transient,
                Code::TargetUnreachable,
                format!("the certificate of postgres is not accepted: {why}"),
                "check sslrootcert in target.url, and the name of the server",
            ),
            None => transient(format!("connection to postgres failed: {}", io.kind())),
        },
        sqlx::Error::PoolTimedOut => transient("no connection to postgres could be had within 5s".to_owned()),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            transient("connection to postgres is closed".to_owned())
        }
        sqlx::Error::Tls(_) => Fault::new(
            Class::Halt,
            Code::TargetUnreachable,
            "TLS with postgres could not be agreed",
            "check sslmode and sslrootcert in target.url",
        ),
        sqlx::Error::Protocol(_) => transient("the connection to postgres broke off in mid-message".to_owned()),
        sqlx::Error::Configuration(_) => Fault::new(
            Class::Halt,
            Code::TargetUnreachable,
            "the options in target.url cannot be used",
            "check the parameters after ? in target.url",
        ),
        sqlx::Error::RowNotFound => Fault::bug("a row that must exist was not found"),
        _ => Fault::new(Class::Unknown, Code::TargetUnreachable, "postgres call failed in a way not known here", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapped_io_error_keeps_its_class() {
        let io = sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "peer"));
        assert_eq!(classify(&io).class, Class::Transient);
        assert_eq!(classify(&sqlx::Error::PoolTimedOut).class, Class::Transient);
    }
}
