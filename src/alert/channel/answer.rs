//! What a channel answers.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};

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

/// What these answers mean whoever gives them; `None` for the others.
pub fn of_anybody(status: StatusCode, after: Option<Duration>) -> Option<Sent> {
    match status {
        _ if status.is_success() => Some(Sent::Done(None)),
        StatusCode::TOO_MANY_REQUESTS => {
            let after = after.or(Some(Duration::from_secs(60)));
            Some(Sent::Later { after, reason: said(status) })
        }
        StatusCode::PAYLOAD_TOO_LARGE => Some(Sent::Malformed(said(status))),
        _ => None,
    }
}

pub fn said(status: StatusCode) -> String {
    format!("answered HTTP {}", status.as_u16())
}
