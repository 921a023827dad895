//! The connection to Postgres: how it is made, what deadline every call has, and how its errors are
//! classified.
//!
//! Error texts of Postgres may quote values, so for errors about data only the code and names are
//! kept.

pub mod ddl;
mod options;
mod password;
mod pool;
mod session;
mod state;
mod target;
mod tls;

use std::future::Future;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction};

use crate::error::{Class, Code, Fault, refused_certificate, why_away};
use crate::settings::Settings;

pub use pool::{Lent, Pool};
use state::Answer;
pub use state::{Refusal, Trouble, Whose};
pub use target::Target;
pub use tls::guarded;

/// Whether `target.url` can be used, as far as that can be told without asking anybody.
///
/// # Errors
/// What is wrong with it, without its secrets.
pub fn judge(settings: &Settings) -> Result<(), Fault> {
    options::hosts(settings).map(drop)
}

/// Runs a call under a client-side deadline: sqlx sets no keepalive, and a cut wire says nothing.
///
/// # Errors
/// The call's own, classified, or the deadline's.
pub async fn with_deadline<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, sqlx::Error>> + Send,
) -> Result<T, Fault> {
    in_time(deadline, async { call.await.map_err(|error| classify(&error)) }).await
}

async fn in_time<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, Fault>> + Send,
) -> Result<T, Fault> {
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| Err(no_answer(deadline)))
}

/// The same for a statement about rows, of which one may be at fault.
///
/// # Errors
/// Refused, if a part of the rows may pass; else as [`with_deadline`].
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
            sqlx::Error::Database(answered)
                if !Answer::of(answered.downcast_ref()).ends_the_session() =>
            {
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
    let transient =
        |message: String| Fault::new(Class::Transient, Code::TargetUnreachable, message, "");
    match error {
        sqlx::Error::Database(answered) => Answer::of(answered.downcast_ref()).fault(),
        sqlx::Error::Io(io) => match refused_certificate(&io.to_string()) {
            Some(why) => Fault::new(
                Class::Transient,
                Code::TargetUnreachable,
                format!("the certificate of postgres is not accepted: {why}"),
                "check sslrootcert in target.url, and the name of the server",
            ),
            None => {
                transient(format!("connection to postgres failed: {}", why_away(&io.to_string())))
            }
        },
        sqlx::Error::PoolTimedOut => {
            transient("no connection to postgres could be had within 5s".to_owned())
        }
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            transient("connection to postgres is closed".to_owned())
        }
        sqlx::Error::Tls(why) if why.to_string().contains("does not support TLS") => Fault::new(
            Class::Halt,
            Code::TargetUnreachable,
            "the server speaks no TLS, which target.url asks for",
            "set ssl = on at the server; target.insecure = true does without",
        ),
        sqlx::Error::Tls(_) => Fault::new(
            Class::Halt,
            Code::TargetUnreachable,
            "TLS with postgres could not be agreed",
            "check sslmode and sslrootcert in target.url",
        ),
        sqlx::Error::Protocol(_) => {
            transient("the connection to postgres broke off in mid-message".to_owned())
        }
        sqlx::Error::Configuration(_) => Fault::new(
            Class::Halt,
            Code::TargetUnreachable,
            "the options in target.url cannot be used",
            "check the parameters after ? in target.url",
        ),
        sqlx::Error::AnyDriverError(inner) if let Some(fault) = inner.downcast_ref::<Fault>() => {
            fault.clone()
        }
        sqlx::Error::RowNotFound => Fault::bug("a row that must exist was not found"),
        _ => Fault::new(
            Class::Unknown,
            Code::TargetUnreachable,
            "postgres call failed in a way not known here",
            "",
        ),
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
