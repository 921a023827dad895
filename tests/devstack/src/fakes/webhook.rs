//! A receiver of signed deliveries: it keeps what it was sent, byte for byte, and judges nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::{Behaviour, Shared, lock, misbehave};

/// One call, as it arrived.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub(super) async fn receive(State(shared): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8_lossy(&body).into_owned();
    let behaviour = {
        let mut received = lock(&shared);
        received.raw.push(format!("delivered {body}"));
        received.receiver.clone()
    };
    if let Some(answer) = misbehave(&behaviour).await {
        return answer;
    }
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    lock(&shared).delivered.push(Delivered { headers, body });
    if behaviour == Behaviour::TakesAndHangs {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    StatusCode::NO_CONTENT.into_response()
}
