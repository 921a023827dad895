//! The HTTP client: deadlines on everything, no redirects, no cookies; one TLS for the whole
//! process. No answer is read further than its reader says.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response};

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
