//! How the way to Postgres is guarded: what `sslmode` and its like come to for each host.
//!
//! A host beyond this machine is verified, name and authority, unless `target.insecure` says not
//! to. The roots given are the only ones: nothing is trusted that is compiled in
//! (`vendor/webpki-roots`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::url::{Url, mode, refuse};
use crate::crypto::name_provider;
use crate::error::Fault;
use crate::settings::{authorities, stays_here};

// sqlx adds these to the roots it is given.
const _: () =
    assert!(webpki_roots::TLS_SERVER_ROOTS.is_empty(), "webpki-roots is not the one in vendor/");

/// Certificates are read anew each time, so that those that change are taken up.
pub(super) struct Tls {
    mode: Option<PgSslMode>,
    /// PEM.
    roots: Option<Vec<u8>>,
    /// Certificate and key, PEM.
    client: Option<[Vec<u8>; 2]>,
}

impl Tls {
    pub fn read(url: &Url) -> Result<Self, Fault> {
        // sqlx makes the one that verifies an authority alone without naming any.
        name_provider();
        let client = match (url.parameter("sslcert"), url.parameter("sslkey")) {
            (Some(certificate), Some(key)) => Some(client(certificate, key)?),
            (None, None) => None,
            _ => return refuse("has one of sslcert and sslkey: both are needed"),
        };
        let roots = match url.parameter("sslrootcert") {
            Some("system") | None => None,
            Some(path) => Some(read("sslrootcert", path)?),
        };
        let mut tls = Self { mode: url.parameter("sslmode").map(mode).transpose()?, roots, client };
        match tls.mode {
            None if url.parameter("sslrootcert").is_some() => {
                tls.mode = Some(PgSslMode::VerifyFull);
            }
            Some(PgSslMode::VerifyFull | PgSslMode::VerifyCa) => {}
            Some(_) if url.parameter("sslrootcert").is_some() => {
                return refuse(
                    "has sslrootcert, which is without effect under this sslmode: write \
                     verify-full",
                );
            }
            Some(PgSslMode::Disable) if tls.client.is_some() => {
                return refuse("has sslcert, which is without effect under sslmode=disable");
            }
            _ => {}
        }
        Ok(tls)
    }

    /// The options of one host; none behind a socket.
    pub fn on(
        &self,
        options: PgConnectOptions,
        host: Option<&str>,
        insecure: bool,
    ) -> Result<PgConnectOptions, Fault> {
        let must_be_verified = host.is_some_and(|host| !stays_here(host)) && !insecure;
        let mode = match self.mode {
            None if must_be_verified => PgSslMode::VerifyFull,
            Some(mode) if must_be_verified && !matches!(mode, PgSslMode::VerifyFull) => {
                return refuse(
                    "has an sslmode under which anybody may stand in for a host that is not this \
                     machine: leave it out or write verify-full; target.insecure = true allows it",
                );
            }
            None => PgSslMode::Prefer,
            Some(mode) => mode,
        };
        let mut options = options.ssl_mode(mode);
        if host.is_some() && matches!(mode, PgSslMode::VerifyFull | PgSslMode::VerifyCa) {
            options = options.ssl_root_cert_from_pem(self.roots()?);
        }
        if let Some([certificate, key]) = &self.client {
            options = options.ssl_client_cert_from_pem(certificate).ssl_client_key_from_pem(key);
        }
        Ok(options)
    }

    /// What of a host is verified, in words.
    pub fn verified(host: Option<&str>, mode: PgSslMode) -> &'static str {
        match (host, mode) {
            (None, _) => "a socket of this machine",
            (Some(_), PgSslMode::VerifyFull) => "name and authority verified",
            (Some(_), PgSslMode::VerifyCa) => "authority verified, its name is not",
            (Some(host), _) if stays_here(host) => "this machine",
            (Some(_), PgSslMode::Disable | PgSslMode::Allow) => {
                "open to whoever listens (target.insecure)"
            }
            (Some(_), _) => "nobody verified: anyone may stand in for it (target.insecure)",
        }
    }

    /// Those given, else the machine's.
    fn roots(&self) -> Result<Vec<u8>, Fault> {
        match (&self.roots, authorities()) {
            (Some(given), _) => usable("sslrootcert", given),
            (None, Some(path)) => {
                let name = path.display().to_string();
                usable(&name, &read("the machine's authorities in", &name)?)
            }
            (None, None) => refuse(
                "has no sslrootcert, and this machine has no file of public authorities: give one \
                 of the two",
            ),
        }
    }
}

fn read(name: &str, path: &str) -> Result<Vec<u8>, Fault> {
    std::fs::read(path).or_else(|error| {
        refuse(format_args!("has {name} {path:?}, which cannot be read: {}", error.kind()))
    })
}

fn client(certificate: &str, key: &str) -> Result<[Vec<u8>; 2], Fault> {
    let (chain, secret) = (read("sslcert", certificate)?, read("sslkey", key)?);
    if CertificateDer::pem_slice_iter(&chain).next().is_none_or(|first| first.is_err()) {
        return refuse(format_args!("has sslcert {certificate:?}, which holds no certificate"));
    }
    if PrivateKeyDer::from_pem_slice(&secret).is_err() {
        return refuse(format_args!(
            "has sslkey {key:?}, which holds no key that is not encrypted"
        ));
    }
    Ok([chain, secret])
}

/// The authorities in a file as PEM, without those that rustls takes none of: sqlx takes all or
/// nothing.
fn usable(name: &str, pem: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut usable = String::new();
    for certificate in CertificateDer::pem_slice_iter(pem).flatten() {
        if RootCertStore::empty().add(certificate.clone()).is_ok() {
            let body = STANDARD.encode(&certificate);
            let _ =
                writeln!(usable, "-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----");
        }
    }
    if usable.is_empty() {
        return refuse(format_args!("has no authority's certificate in {name}"));
    }
    Ok(usable.into_bytes())
}
