//! The connection to Postgres: how it is made, what deadline every call has, and how its errors are classified.
//!
//! Error texts of Postgres may quote values, so for errors about data only the code and names are kept.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection};

use crate::error::{Class, Code, Fault, refused_certificate};
use crate::settings::Settings;

/// How to reach the target, and for how long to wait for it.
#[derive(Debug, Clone)]
pub struct Target {
    options: PgConnectOptions,
    /// Longer than the server's own `statement_timeout`, so that the server's answer usually comes first.
    deadline: Duration,
}

impl Target {
    /// Session timeouts end what a frozen client left behind within the lease's length.
    ///
    /// # Errors
    /// The URL cannot be parsed; it is not repeated, because it may hold a password.
    pub fn new(settings: &Settings) -> Result<Self, Fault> {
        let hint = "write target.url as postgres://user:password@host:5432/database";
        let bad = |_| Fault::new(Class::Halt, Code::TargetUnreachable, "target.url cannot be parsed", hint);
        let lease = settings.lease.duration;
        let millis = |duration: Duration| duration.as_millis().max(1).to_string();
        let options = PgConnectOptions::from_str(settings.target.url.expose())
            .map_err(bad)?
            .application_name(&settings.service)
            .options([
                ("statement_timeout", millis(lease)),
                ("lock_timeout", millis(lease.mul_f64(0.8))),
                ("idle_in_transaction_session_timeout", millis(lease.mul_f64(0.5))),
                ("plan_cache_mode", "force_custom_plan".to_owned()),
                ("jit", "off".to_owned()),
                ("timezone", "UTC".to_owned()),
            ])
            .disable_statement_logging();
        Ok(Self { options, deadline: lease + Duration::from_secs(5) })
    }

    /// `host:port/database as user`: an allowlist, for messages.
    pub fn shown(&self) -> String {
        let database = self.options.get_database().unwrap_or("(default)");
        format!("{}:{}/{database} as {}", self.options.get_host(), self.options.get_port(), self.options.get_username())
    }

    pub const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// Whatever keeps it from being made, classified.
    pub async fn connect(&self) -> Result<PgConnection, Fault> {
        within(Duration::from_secs(10), self.options.connect()).await
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

    /// One connection whose unqualified names are in `schema` (quoted): migrations carry no schema's name.
    pub fn pool_in(&self, schema: &str) -> PgPool {
        let options = self.options.clone().options([("search_path", schema)]);
        PgPoolOptions::new().max_connections(1).acquire_timeout(Duration::from_secs(5)).connect_lazy_with(options)
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
        Err(_) => Err(Fault::new(
            Class::Transient,
            Code::TargetUnreachable,
            format!("no answer from postgres within {deadline:?}"),
            "",
        )),
    }
}

/// Closes without waiting for a server that may be gone.
pub async fn close(connection: PgConnection) {
    let _ = tokio::time::timeout(Duration::from_secs(1), connection.close()).await;
}

/// SQLSTATE prefixes and codes, longest match first within the list; `PostgreSQL` manual, appendix A.
const STATES: &[(&str, Class, Code, &str)] = &[
    ("08", Class::Transient, Code::TargetUnreachable, ""),
    ("40001", Class::Transient, Code::TargetUnreachable, ""),
    ("40P01", Class::Transient, Code::TargetUnreachable, ""),
    ("55P03", Class::Transient, Code::TargetUnreachable, ""),
    ("53300", Class::Transient, Code::TargetUnreachable, "raise max_connections, or find what holds the connections"),
    ("57014", Class::Transient, Code::TargetUnreachable, ""),
    ("57P01", Class::Transient, Code::TargetUnreachable, ""),
    ("57P02", Class::Transient, Code::TargetUnreachable, ""),
    ("57P03", Class::Transient, Code::TargetUnreachable, ""),
    ("57P05", Class::Transient, Code::TargetUnreachable, ""),
    ("25P03", Class::Transient, Code::TargetUnreachable, ""),
    ("28", Class::Halt, Code::TargetUnauthorised, "check the user and password in target.url, and pg_hba.conf"),
    ("3D000", Class::Halt, Code::TargetSchemaMismatch, "create the database, or name another one in target.url"),
    ("3F000", Class::Halt, Code::TargetSchemaMismatch, "run `tidemark migrate`"),
    ("42501", Class::Halt, Code::TargetUnauthorised, "grant the privileges that the README lists"),
    ("42P01", Class::Halt, Code::TargetSchemaMismatch, "run `tidemark migrate`"),
    ("42703", Class::Halt, Code::TargetSchemaMismatch, "run `tidemark migrate`"),
    (
        "42804",
        Class::Halt,
        Code::TargetSchemaMismatch,
        "a column's type in the table differs from its type in [[stream.column]]: alter one of the two",
    ),
    (
        "42",
        Class::Halt,
        Code::TargetSchemaMismatch,
        "compare the table with [[stream.column]]; `tidemark check` names the statement",
    ),
    ("53100", Class::Halt, Code::TargetFull, "free disk space on the Postgres server"),
    ("25006", Class::Halt, Code::TargetUnauthorised, "the server is read-only: point target.url at the primary"),
    ("22", Class::Record, Code::DeadLetters, ""),
    ("23", Class::Record, Code::DeadLetters, ""),
    ("54", Class::Record, Code::DeadLetters, ""),
];

/// Sorts a Postgres error by its SQLSTATE. The only place that does.
pub fn classify(error: &sqlx::Error) -> Fault {
    let transient = |message: String| Fault::new(Class::Transient, Code::TargetUnreachable, message, "");
    match error {
        sqlx::Error::Database(database) => {
            let database = database.downcast_ref::<PgDatabaseError>();
            of_state(database.code(), database.message(), database.constraint())
        }
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

fn of_state(state: &str, message: &str, constraint: Option<&str>) -> Fault {
    let found = STATES.iter().find(|(prefix, ..)| state.starts_with(prefix));
    let (class, code, hint) =
        found.map_or((Class::Unknown, Code::TargetUnreachable, ""), |(_, class, code, hint)| (*class, *code, *hint));
    let text = match class {
        // Messages about data quote the data.
        Class::Record => constraint.map_or_else(
            || format!("value cannot be stored (SQLSTATE {state})"),
            |name| format!("value violates constraint {name} (SQLSTATE {state})"),
        ),
        _ => format!("{message} (SQLSTATE {state})"),
    };
    Fault::new(class, code, text, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_state_has_its_class_and_data_is_never_quoted() {
        for (state, class) in [
            ("08006", Class::Transient),
            ("40001", Class::Transient),
            ("40P01", Class::Transient),
            ("55P03", Class::Transient),
            ("53300", Class::Transient),
            ("57014", Class::Transient),
            ("57P01", Class::Transient),
            ("57P02", Class::Transient),
            ("57P03", Class::Transient),
            ("28P01", Class::Halt),
            ("28000", Class::Halt),
            ("3D000", Class::Halt),
            ("42501", Class::Halt),
            ("42P01", Class::Halt),
            ("42703", Class::Halt),
            ("42804", Class::Halt),
            ("53100", Class::Halt),
            ("25006", Class::Halt),
            ("22P02", Class::Record),
            ("23514", Class::Record),
            ("54000", Class::Record),
            ("XX000", Class::Unknown),
        ] {
            assert_eq!(of_state(state, "secret", None).class, class, "{state}");
        }
        assert!(!of_state("22P02", "invalid input: \"Mary Smith\"", None).message.contains("Mary"));
    }

    #[test]
    fn a_wrapped_io_error_keeps_its_class() {
        let io = sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "peer"));
        assert_eq!(classify(&io).class, Class::Transient);
        assert_eq!(classify(&sqlx::Error::PoolTimedOut).class, Class::Transient);
    }
}
