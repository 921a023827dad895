//! Slack: the bot's methods on the messages of one channel, and an incoming webhook.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Behaviour, CHANNEL, Message, Received, Shared, lock, misbehave};

pub(super) async fn bot(
    State(shared): Shared,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let behaviour = {
        let mut received = lock(&shared);
        received.raw.push(format!("slack {method} {}", String::from_utf8_lossy(&body)));
        let behaviour = received.slack.clone();
        received.calls.push((method.clone(), format!("{behaviour:?}"), Instant::now()));
        behaviour
    };
    if let Some(answer) = misbehave(&behaviour).await {
        return answer;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let token = format!("Bearer {}", lock(&shared).secrets[0]);
    let authorised = headers.get(header::AUTHORIZATION).is_some_and(|told| told == &token);
    let answer =
        if authorised { take(&mut lock(&shared), &method, &body) } else { refuse("invalid_auth") };
    if behaviour == Behaviour::TakesAndHangs {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    axum::Json(answer).into_response()
}

fn refuse(error: &str) -> Value {
    json!({ "ok": false, "error": error })
}

fn take(received: &mut Received, method: &str, body: &Value) -> Value {
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    match method {
        "auth.test" => return json!({ "ok": true, "team": "Fake", "user": "tidemark" }),
        _ if text("channel") != CHANNEL => return refuse("channel_not_found"),
        "conversations.info" => return json!({ "ok": true, "channel": { "id": CHANNEL } }),
        _ => {}
    }
    if let Some(error) = malformed(body) {
        return refuse(error);
    }
    match method {
        "chat.postMessage" => {
            let thread = body["thread_ts"].as_str().map(str::to_owned);
            if thread.as_ref().is_some_and(|ts| !received.messages.iter().any(|m| m.ts == *ts)) {
                return refuse("thread_not_found");
            }
            let ts = format!("1700000000.{:06}", received.next);
            received.next += 1;
            let message = Message {
                ts: ts.clone(),
                thread,
                body: body.clone(),
                edits: 0,
                at: Instant::now(),
            };
            received.messages.push(message);
            json!({ "ok": true, "channel": CHANNEL, "ts": ts })
        }
        "chat.update" => {
            let ts = text("ts");
            let Some(message) = received.messages.iter_mut().find(|message| message.ts == ts)
            else {
                return refuse("message_not_found");
            };
            message.body = body.clone();
            message.edits += 1;
            json!({ "ok": true, "channel": CHANNEL, "ts": ts })
        }
        _ => refuse("unknown_method"),
    }
}

/// Slack's limits on a message.
fn malformed(body: &Value) -> Option<&'static str> {
    if body["text"].as_str().is_none_or(str::is_empty) {
        return Some("no_text");
    }
    let blocks = body["blocks"].as_array().cloned().unwrap_or_default();
    if blocks.len() > 50 {
        return Some("invalid_blocks");
    }
    for block in blocks {
        let length = block["text"]["text"].as_str().map_or(0, |text| text.chars().count());
        let fine = match block["type"].as_str() {
            Some("header") => (1..=150).contains(&length) && block["text"]["type"] == "plain_text",
            Some("section") => (1..=3000).contains(&length),
            Some("context") => {
                block["elements"].as_array().is_some_and(|e| (1..=10).contains(&e.len()))
            }
            _ => false,
        };
        if !fine {
            return Some("invalid_blocks");
        }
    }
    None
}

pub(super) async fn webhook(
    State(shared): Shared,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let behaviour = {
        let mut received = lock(&shared);
        received.raw.push(format!("webhook {}", String::from_utf8_lossy(&body)));
        // The webhook lives on when a token is revoked, and dies with the whole of Slack.
        match received.slack.clone() {
            Behaviour::Error(_) => Behaviour::Normal,
            behaviour => behaviour,
        }
    };
    if let Some(answer) = misbehave(&behaviour).await {
        return answer;
    }
    if id != lock(&shared).secrets[1] {
        return (StatusCode::NOT_FOUND, "no_service").into_response();
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if malformed(&body).is_some() {
        return (StatusCode::BAD_REQUEST, "invalid_payload").into_response();
    }
    lock(&shared).webhook.push(body);
    "ok".into_response()
}
