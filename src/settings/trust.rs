//! Whom a host is trusted by: what counts as this machine, and whose certificates the machine
//! takes.

use std::net::IpAddr;
use std::path::PathBuf;

/// Whether what is sent to this host stays on this machine. Told by what is written alone: what a
/// name resolves to is another's to say.
pub fn stays_here(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The file of the public authorities this machine trusts: `SSL_CERT_FILE`, else where its system
/// keeps them.
pub fn authorities() -> Option<PathBuf> {
    openssl_probe::probe().cert_file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_written_as_this_machine_is_this_machine() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(stays_here(host), "{host}");
        }
        for host in [
            "db",
            "0.0.0.0",
            "10.0.0.1",
            "localhost.example.org",
            "127.0.0.1.example.org",
            "::",
            "",
        ] {
            assert!(!stays_here(host), "{host}");
        }
    }
}
