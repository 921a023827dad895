//! Whom a host is trusted by: what counts as this machine, and whose certificates the machine
//! takes.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;

/// Whether what is sent to this host stays on this machine. Told by what is written alone: what a
/// name resolves to is another's to say.
pub fn stays_here(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether nobody on the way can read what is sent to a URL: it is https, or of this machine.
pub(super) fn is_guarded(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !host.is_empty() && (url.scheme() == "https" || (url.scheme() == "http" && is_here))
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

    #[test]
    fn only_https_and_this_machine_are_guarded() {
        for url in [
            "https://slack.com/api",
            "http://127.0.0.1:9/a",
            "http://[::1]/",
            "http://localhost:1/x",
        ] {
            assert!(is_guarded(url), "{url}");
        }
        for url in [
            "http://slack.com/api",
            "http://127.0.0.1@evil.example/",
            "http://localhost.evil.example/",
            "http://10.0.0.1/",
            "ftp://127.0.0.1/",
            "https://",
            "slack.com",
            "",
        ] {
            assert!(!is_guarded(url), "{url}");
        }
    }
}
