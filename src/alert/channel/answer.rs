//! What a channel answers.

use std::time::Duration;

use reqwest::{Response, header::RETRY_AFTER};

/// What came of sending something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Taken; where the message now is, if the channel says so.
    Done(Option<(String, String)>),
    /// Not now: the channel is away, slow or overrun. It may have been taken all the same.
    Later { after: Option<Duration>, reason: String },
    /// Not until a person has mended something.
    Refused(String),
    /// The message meant is not there any more.
    Gone,
    /// The channel will never take this body.
    Malformed(String),
}

/// Why a call failed, without its URL: that may be a secret.
pub fn unanswered(error: &reqwest::Error) -> Sent {
    let reason = if error.is_timeout() {
        "no answer within 10s"
    } else if error.is_connect() {
        "no connection can be made"
    } else {
        "the connection broke off"
    };
    Sent::Later { after: None, reason: reason.to_owned() }
}

/// `Retry-After` in seconds, if the answer says so.
pub fn retry_after(answer: &Response) -> Option<Duration> {
    let seconds = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
