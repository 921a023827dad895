//! The HTTP client: deadlines on everything, no redirects, no cookies; one TLS for the whole process.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, ClientBuilder};

/// Every call ends within this time.
pub const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client with these deadlines, to be made narrower.
pub fn builder() -> ClientBuilder {
    // Another part of the process may have chosen before: the choice is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tidemark/", env!("CARGO_PKG_VERSION")))
}

/// The one client: making one reads every certificate of the machine. No connection is kept, so that it can be used
/// from any runtime.
pub fn client() -> Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| builder().pool_max_idle_per_host(0).build().unwrap_or_default()).clone()
}
