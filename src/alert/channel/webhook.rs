//! A webhook of anybody's: JSON by POST, signed, one delivery for each transition of an incident,
//! with all that is known of it now. What a delivery holds is in docs/reference.md; [`VERSION`]
//! rises if something is taken away from it or means something else, not if something is added.

use std::fmt::Write;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Client, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::alert::channel::answer::{Sent, of_anybody, retry_after, said, unanswered};
use crate::alert::channel::message::{Voice, title};
use crate::alert::incident::life::{Incident, Transition};
use crate::error::rules;
use crate::http_client::client;
use crate::settings::{Alert, Secret};

/// Of what is sent.
pub const VERSION: u32 = 1;

/// The client of the receiver.
#[derive(Debug)]
pub struct SignedWebhook {
    http: Client,
    url: Secret,
    secret: Secret,
}

impl SignedWebhook {
    /// `None` where no receiver is configured.
    pub fn new(alert: &Alert) -> Option<Self> {
        (!alert.webhook_url.is_empty()).then(|| Self {
            http: client(),
            url: alert.webhook_url.clone(),
            secret: alert.webhook_secret.clone(),
        })
    }

    /// One delivery; the same `id` for the same one sent twice.
    pub async fn send(&self, body: &Value, id: Uuid) -> Sent {
        let (body, at) = (body.to_string(), Utc::now().timestamp());
        let signature = signature(self.secret.now().expose(), at, &body);
        let request = self
            .http
            .post(self.url.now().expose())
            .header("Content-Type", "application/json")
            .header("X-Tidemark-Delivery", id.to_string())
            .header("X-Tidemark-Timestamp", at)
            .header("X-Tidemark-Signature", format!("sha256={signature}"))
            .body(body);
        match request.send().await {
            Ok(answer) => classify(answer.status(), retry_after(&answer)),
            Err(error) => unanswered(&error),
        }
    }
}

/// HMAC-SHA256 of `timestamp.body`, in hex: whoever replays a delivery cannot give it another time.
fn signature(secret: &str, at: i64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{at}.{body}").as_bytes());
    tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What its receiver has to do about the answer: every delivery has the same shape, so one that is
/// refused means that something is set up wrongly.
fn classify(status: StatusCode, after: Option<Duration>) -> Sent {
    let said = said(status);
    of_anybody(status, after).unwrap_or_else(|| match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => Sent::Later { after, reason: said },
        _ if status.is_server_error() => Sent::Later { after, reason: said },
        _ => Sent::Refused(format!("{said}: check alert.webhook")),
    })
}

/// An incident as it is now. `first`: this receiver has heard nothing of it yet; `skipped`
/// transitions before the last were not told.
pub fn body(
    voice: &Voice,
    incident: &Incident,
    first: bool,
    skipped: u32,
    now: DateTime<Utc>,
) -> Value {
    let detail = &incident.detail;
    let last = if first && !incident.is_resolved() { Transition::Opened } else { detail.last };
    let ack = incident.acked(now);
    json!({
        "version": VERSION,
        "type": "incident",
        "test": detail.title.is_some(),
        "service": voice.service,
        "environment": voice.environment,
        "event": last,
        "at": detail.changed_at,
        "skipped": skipped,
        "incident": {
            "key": incident.tag,
            "id": incident.id,
            "code": incident.key.code.name(),
            "stream": incident.key.stream,
            "severity": incident.severity.name(),
            "state": incident.state_name(now),
            "title": title(incident),
            "summary": incident.summary,
            "means": rules::of(incident.key.code).means,
            "doing": detail.doing,
            "action": detail.action,
            "since": detail.since,
            "opened_at": incident.opened_at,
            "resolved_at": incident.resolved_at,
            "count": incident.count,
            "acked_by": ack.map(|ack| &ack.by),
            "acked_until": ack.map(|ack| ack.until),
            "progress": detail.progress,
            "gap": detail.gap,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_that_anybody_computes() {
        // printf '1795342490.{"a":1}' | openssl dgst -sha256 -hmac secret
        let known = "3d71bc99a0083e82a5de50fd4a078429916c112d04247c7067b0ed1e78918290";
        assert_eq!(signature("secret", 1_795_342_490, "{\"a\":1}"), known);
        assert_ne!(signature("secret", 1_795_342_491, "{\"a\":1}"), known);
    }

    #[test]
    fn every_answer_has_its_meaning() {
        let of = |status: u16| classify(StatusCode::from_u16(status).unwrap(), None);
        assert_eq!((of(200), of(202)), (Sent::Done(None), Sent::Done(None)));
        assert!(matches!(of(429), Sent::Later { after: Some(_), .. }));
        for status in [408, 425, 500, 503] {
            assert!(matches!(of(status), Sent::Later { after: None, .. }), "{status}");
        }
        for status in [302, 400, 401, 404, 410, 422] {
            assert!(matches!(of(status), Sent::Refused(_)), "{status}");
        }
        assert!(matches!(of(413), Sent::Malformed(_)));
    }
}
