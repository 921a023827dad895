//! What `target.url` says of how the target is reached: the options of each host, in the order
//! given. Nothing is taken from a password file.

use sqlx::postgres::PgConnectOptions;

use super::tls::Tls;
use super::url::{Url, refuse};
use crate::error::Fault;
use crate::settings::{Settings, TargetSettings};

/// # Errors
/// What is wrong with the URL, without its secrets.
pub(super) fn hosts(settings: &Settings) -> Result<Vec<PgConnectOptions>, Fault> {
    of(&settings.target)
}

/// The same of one end's settings. Never empty.
pub(super) fn of(target: &TargetSettings) -> Result<Vec<PgConnectOptions>, Fault> {
    let url = Url::parse(target.url.expose())?;
    if url.password.is_some() && !target.password_command.is_empty() {
        return refuse(
            "has a password, and target.password_command is given too: keep one of the two",
        );
    }
    let places = url.places()?;
    let tls = Tls::read(&url)?;
    let base = url.base()?;
    places
        .iter()
        .map(|place| tls.on(place.of(base.clone()), place.host(), target.insecure))
        .collect()
}

/// Whether logins are made with a client certificate, whose files are replaced one after the other.
pub(super) fn has_client_certificate(target: &TargetSettings) -> bool {
    Url::parse(target.url.expose()).is_ok_and(|url| url.parameter("sslcert").is_some())
}

/// What of each host is verified, in words for a person.
///
/// # Errors
/// The URL cannot be used.
pub fn guarded(settings: &Settings) -> Result<String, Fault> {
    let of = |host: &PgConnectOptions| {
        let name = host.get_socket().is_none().then(|| host.get_host());
        format!("{}: {}", name.unwrap_or("socket"), Tls::verified(name, host.get_ssl_mode()))
    };
    Ok(hosts(settings)?.iter().map(of).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests;
