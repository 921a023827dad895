//! The HTTP client: deadlines on everything, no redirects, no cookies; one TLS for the whole
//! process. No answer is read further than its reader says.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, Url};

use crate::crypto::name_provider;

/// Every call ends within this time.
pub const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client with these deadlines, to be made narrower.
pub fn builder() -> ClientBuilder {
    name_provider();
    Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tidemark/", env!("CARGO_PKG_VERSION")))
}

/// The one client: making one reads every certificate of the machine. No connection is kept, so
/// that it can be used from any runtime.
pub fn client() -> Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| builder().pool_max_idle_per_host(0).build().unwrap_or_default()).clone()
}

/// The body of an answer; `None` if it is longer than `max`: the rest is not read.
///
/// # Errors
/// The connection breaks off, or the deadline is over.
pub async fn read_up_to(mut answer: Response, max: usize) -> reqwest::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > max {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Whether nobody on the way can read what is sent to a URL: it is https, or of this machine.
pub fn is_guarded(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !host.is_empty() && (url.scheme() == "https" || (url.scheme() == "http" && is_here))
}

#[cfg(test)]
mod tests {
    use super::*;

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
