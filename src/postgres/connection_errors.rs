//! Errors of the Postgres driver, sorted by what they mean for whoever called.

use super::refusal::{Answer, Trouble};
use crate::error::{Class, Code, Fault, refused_certificate, why_away};

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

/// The same for a statement about rows, of which one may be at fault.
pub(super) fn trouble(error: &sqlx::Error) -> Trouble {
    let refusal = match error {
        sqlx::Error::Database(answered) => Answer::of(answered.downcast_ref()).refusal(),
        _ => None,
    };
    refusal.map_or_else(|| Trouble::Failed(classify(error)), Trouble::Refused)
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
