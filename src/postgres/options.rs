//! What `target.url` says of how the target is reached.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

use crate::error::{Class, Code, Fault};
use crate::settings::Settings;

/// # Errors
/// The URL cannot be parsed; it is not repeated, because it may hold a password.
pub(super) fn of(settings: &Settings) -> Result<PgConnectOptions, Fault> {
    let hint = "write target.url as postgres://user:password@host:5432/database";
    PgConnectOptions::from_str(settings.target.url.expose())
        .map_err(|_| Fault::new(Class::Halt, Code::TargetUnreachable, "target.url cannot be parsed", hint))
}
