//! Every call of Postgres has a deadline, and an end that says whether a transaction landed.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection, Postgres, Transaction};

use super::connection_errors::{classify, trouble};
use super::refusal::{Answer, Trouble};
use crate::error::{Class, Code, Fault};

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

pub(super) async fn in_time<T>(
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

/// Asks for a call to be cancelled once it has lasted so long; what it comes to is its own answer
/// all the same. The cancellation is waited for, so that it ends no later call.
pub async fn cancelled_after<T: Send>(
    limit: Duration,
    call: impl Future<Output = T> + Send,
    cancel: impl Future<Output = ()> + Send,
) -> T {
    let mut call = pin!(call);
    match tokio::time::timeout(limit, &mut call).await {
        Ok(answer) => answer,
        Err(_) => tokio::join!(call, cancel).0,
    }
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
