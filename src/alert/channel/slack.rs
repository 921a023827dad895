//! Slack: what is sent there and what it answers. The bot has one thread an incident; the webhook
//! only sends. <https://docs.slack.dev/reference/methods/chat.postMessage> lists the errors.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::alert::channel::answer::{Sent, retry_after, unanswered};
use crate::http_client::{client, read_up_to};
use crate::model::shown::shown;
use crate::settings::{Alert, Secret};

/// Slack's answers hold the message sent, and no more than that.
const ANSWER_MAX: usize = 256 << 10;

/// Its words for what is wrong are shorter than this.
const WORD_MAX: usize = 60;

/// A call to Slack.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// A new message; in the thread of another, if one is named.
    Post {
        body: Value,
        thread: Option<(String, String)>,
        id: Uuid,
    },
    Update {
        body: Value,
        message: (String, String),
    },
}

/// The client of one workspace's channel.
#[derive(Debug)]
pub struct Bot {
    http: Client,
    token: Secret,
    channel: String,
    base: String,
}

impl Bot {
    /// `None` where no bot is configured.
    pub fn new(alert: &Alert) -> Option<Self> {
        (!alert.slack_bot_token.is_empty()).then(|| Self {
            http: client(),
            token: alert.slack_bot_token.clone(),
            channel: alert.slack_channel.clone(),
            base: alert.slack_api_base.trim_end_matches('/').to_owned(),
        })
    }

    pub async fn call(&self, call: &Call) -> Sent {
        let (method, mut message, extra) = match call {
            Call::Post { body, thread, id } => {
                let place = thread.as_ref().map_or(self.channel.as_str(), |(channel, _)| channel);
                let mut extra = json!({
                    "channel": place, "client_msg_id": id, "unfurl_links": false, "parse": "none",
                });
                if let (Some((_, ts)), Some(fields)) = (thread, extra.as_object_mut()) {
                    fields.insert("thread_ts".to_owned(), json!(ts));
                }
                ("chat.postMessage", body.clone(), extra)
            }
            Call::Update { body, message: (channel, ts) } => (
                "chat.update",
                body.clone(),
                json!({ "channel": channel, "ts": ts, "parse": "none" }),
            ),
        };
        if let (Some(message), Value::Object(extra)) = (message.as_object_mut(), extra) {
            message.extend(extra);
        }
        match self.ask(method, &message).await {
            // The channel as Slack names it, which an edit needs; what was configured, where it
            // does not say.
            Sent::Done(Some((channel, ts))) if channel.is_empty() => {
                Sent::Done(Some((self.channel.clone(), ts)))
            }
            sent => sent,
        }
    }

    /// Whether the token is good.
    pub async fn test_token(&self) -> Sent {
        self.ask("auth.test", &json!({})).await
    }

    /// Whether the channel is there for the bot. Slack looks channels up by id only.
    pub async fn test_channel(&self) -> Sent {
        self.ask("conversations.info", &json!({ "channel": self.channel })).await
    }

    async fn ask(&self, method: &str, body: &Value) -> Sent {
        let url = format!("{}/{method}", self.base);
        let request = self.http.post(url).bearer_auth(self.token.now().expose()).json(body);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return unanswered(&error),
        };
        let (status, after) = (answer.status(), retry_after(&answer));
        let read = match read_up_to(answer, ANSWER_MAX).await {
            Ok(read) => read.unwrap_or_default(),
            Err(error) if error.is_timeout() => return unanswered(&error),
            Err(_) => Vec::new(),
        };
        classify(status, after, &serde_json::from_slice(&read).unwrap_or_default())
    }
}

/// The client of an incoming webhook.
#[derive(Debug)]
pub struct Webhook {
    http: Client,
    url: Secret,
}

impl Webhook {
    /// `None` where no webhook is configured.
    pub fn new(alert: &Alert) -> Option<Self> {
        (!alert.slack_webhook_url.is_empty())
            .then(|| Self { http: client(), url: alert.slack_webhook_url.clone() })
    }

    pub async fn send(&self, body: &Value) -> Sent {
        let only = json!({ "text": body.get("text"), "blocks": body.get("blocks") });
        let answer = match self.http.post(self.url.now().expose()).json(&only).send().await {
            Ok(answer) => answer,
            Err(error) => return unanswered(&error),
        };
        let (status, after) = (answer.status(), retry_after(&answer));
        // A webhook answers "ok" or a word in plain text.
        let word = read_up_to(answer, ANSWER_MAX).await.ok().flatten().unwrap_or_default();
        let ok = status.is_success();
        classify(
            status,
            after,
            &json!({ "ok": ok, "error": String::from_utf8_lossy(&word).trim() }),
        )
    }
}

/// Errors that a person has to mend, by what is wrong.
const REFUSALS: &[(&str, &str)] = &[
    ("invalid_auth", "the bot token is not valid"),
    ("not_authed", "the bot token is missing"),
    ("account_inactive", "the bot's account is deactivated"),
    ("token_revoked", "the bot token was revoked"),
    ("token_expired", "the bot token has expired"),
    ("missing_scope", "the bot lacks a scope: it needs chat:write, and channels:read for `check`"),
    ("no_permission", "the bot lacks a permission"),
    ("ekm_access_denied", "the workspace's administrators have suspended posting"),
    ("restricted_action", "the workspace does not let the bot post"),
    ("channel_not_found", "the channel is not there, or the bot is not in it"),
    ("not_in_channel", "the bot is not in the channel: invite it"),
    ("is_archived", "the channel is archived"),
    ("invalid_token", "the webhook is not valid"),
    ("no_service", "the webhook was removed or disabled"),
    ("no_team", "the webhook's workspace is not there"),
    ("team_disabled", "the webhook's workspace is disabled"),
    ("channel_is_archived", "the webhook's channel is archived"),
    ("action_prohibited", "the workspace does not let the webhook post"),
];

/// The message, or its thread, is not there or cannot be changed any more.
const GONE: &[&str] = &[
    "message_not_found",
    "cant_update_message",
    "edit_window_closed",
    "thread_not_found",
    "cannot_reply_to_message",
    "is_inactive",
];

/// The body itself is refused.
const MALFORMED: &[&str] = &[
    "invalid_blocks",
    "invalid_blocks_format",
    "msg_blocks_too_long",
    "msg_too_long",
    "no_text",
    "invalid_arguments",
    "invalid_payload",
    "metadata_too_large",
    "metadata_must_be_sent_from_app",
    "invalid_metadata_format",
    "invalid_metadata_schema",
];

/// What an answer means.
fn classify(status: StatusCode, after: Option<Duration>, body: &Value) -> Sent {
    let error = body.get("error").and_then(Value::as_str).unwrap_or_default();
    let error = &shown(&error.chars().take(WORD_MAX).collect::<String>());
    if status == StatusCode::TOO_MANY_REQUESTS || error == "ratelimited" || error == "rate_limited"
    {
        return Sent::Later {
            after: after.or(Some(Duration::from_secs(30))),
            reason: "too many requests".to_owned(),
        };
    }
    if let Some((word, what)) = REFUSALS.iter().find(|(word, _)| word == error) {
        return Sent::Refused(format!("{what} ({word})"));
    }
    if GONE.contains(&error.as_str()) {
        return Sent::Gone;
    }
    if MALFORMED.contains(&error.as_str()) {
        return Sent::Malformed(error.clone());
    }
    if status.is_success() && body.get("ok").and_then(Value::as_bool) == Some(true) {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        return Sent::Done(text("ts").map(|ts| (text("channel").unwrap_or_default(), ts)));
    }
    if status.is_client_error() {
        return Sent::Refused(format!("answered HTTP {}", status.as_u16()));
    }
    let reason = if error.is_empty() {
        format!("answered HTTP {}", status.as_u16())
    } else {
        format!("answered {error}")
    };
    Sent::Later { after, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_meaning() {
        let of =
            |status: u16, body: Value| classify(StatusCode::from_u16(status).unwrap(), None, &body);
        let done = of(200, json!({ "ok": true, "channel": "C1", "ts": "1.2" }));
        assert_eq!(done, Sent::Done(Some(("C1".into(), "1.2".into()))));
        for (word, _) in REFUSALS {
            assert!(
                matches!(of(200, json!({ "ok": false, "error": word })), Sent::Refused(_)),
                "{word}"
            );
        }
        for word in GONE {
            assert_eq!(of(200, json!({ "ok": false, "error": word })), Sent::Gone, "{word}");
        }
        for word in MALFORMED {
            assert!(
                matches!(of(200, json!({ "ok": false, "error": word })), Sent::Malformed(_)),
                "{word}"
            );
        }
        for word in [
            "internal_error",
            "fatal_error",
            "service_unavailable",
            "request_timeout",
            "never heard of",
        ] {
            assert!(
                matches!(of(200, json!({ "ok": false, "error": word })), Sent::Later { .. }),
                "{word}"
            );
        }
        assert!(matches!(of(429, Value::Null), Sent::Later { after: Some(_), .. }));
        assert!(matches!(of(500, Value::Null), Sent::Later { after: None, .. }));
        assert!(matches!(of(404, json!({ "ok": false, "error": "no_service" })), Sent::Refused(_)));
        // A proxy's page in Slack's place is no success.
        assert!(matches!(of(200, Value::Null), Sent::Later { .. }));
        assert!(matches!(of(302, Value::Null), Sent::Later { .. }));
    }
}
