//! Stand-ins for Slack, Sentry, a webhook's and a heartbeat's receiver: they speak the real
//! protocols over loopback, keep what they are sent, refuse what the real ones would, and fail on
//! demand.

mod page;
mod slack;
mod webhook;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::Result;

pub use webhook::Delivered;

/// What a fake does with the next calls.
#[derive(Debug, Clone, PartialEq)]
pub enum Behaviour {
    Normal,
    /// 429 with Retry-After, in seconds.
    Overrun(u64),
    Status(u16),
    /// Never answers; what was sent is not taken.
    Hangs,
    /// Takes what is sent, and never answers.
    TakesAndHangs,
    /// Slack's `ok: false` with this error.
    Error(&'static str),
}

/// A message in the fake's channel, as it now looks.
#[derive(Debug, Clone)]
pub struct Message {
    pub ts: String,
    pub thread: Option<String>,
    pub body: Value,
    pub edits: usize,
    pub at: Instant,
}

#[derive(Debug)]
struct Received {
    slack: Behaviour,
    sentry: Behaviour,
    heartbeat: Behaviour,
    receiver: Behaviour,
    messages: Vec<Message>,
    webhook: Vec<Value>,
    delivered: Vec<Delivered>,
    /// Every call to Slack: method, answered with.
    calls: Vec<(String, String, Instant)>,
    events: Vec<Value>,
    check_ins: Vec<Value>,
    pings: usize,
    next: u64,
    /// The bot's token, the webhook's id and Sentry's key: nobody else is let in.
    secrets: [String; 3],
    /// Everything that arrived, as text, for searching.
    raw: Vec<String>,
}

/// All of them, on one port.
#[derive(Clone)]
pub struct Fakes {
    port: u16,
    received: Arc<Mutex<Received>>,
    _stop: Arc<tokio::sync::oneshot::Sender<()>>,
}

pub const TOKEN: &str = "xoxb-fake-token";
pub const CHANNEL: &str = "C0FAKE";
pub const RECEIVER_SECRET: &str = "only-the-receiver-knows";

impl Fakes {
    /// On a free loopback port, on a thread of their own.
    pub fn start() -> Result<Self> {
        Self::listen("127.0.0.1:0")
    }

    pub fn listen(address: &str) -> Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let received = Arc::new(Mutex::new(Received {
            slack: Behaviour::Normal,
            sentry: Behaviour::Normal,
            heartbeat: Behaviour::Normal,
            receiver: Behaviour::Normal,
            messages: Vec::new(),
            webhook: Vec::new(),
            delivered: Vec::new(),
            calls: Vec::new(),
            events: Vec::new(),
            check_ins: Vec::new(),
            pings: 0,
            next: 1,
            secrets: [TOKEN, "B0FAKE", "fakekey"].map(str::to_owned),
            raw: Vec::new(),
        }));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let fakes = Self { port, received, _stop: Arc::new(stop) };
        let router = Router::new()
            .route("/slack/api/{method}", post(slack::bot))
            .route("/slack/webhook/{id}", post(slack::webhook))
            .route("/sentry/api/{project}/envelope/", post(sentry))
            .route("/receiver", post(webhook::receive))
            .route("/heartbeat/{id}", get(heartbeat))
            .route("/received", get(received_json))
            .route("/", get(page::received))
            .with_state(Arc::clone(&fakes.received));
        serve_until(listener, router, stopped);
        Ok(fakes)
    }

    /// `[alert]` of a configuration that speaks to these.
    pub fn config(&self) -> String {
        let base = format!("http://127.0.0.1:{}", self.port);
        format!(
            "alert.slack.bot_token = \"{TOKEN}\"\nalert.slack.channel = \"{CHANNEL}\"\n\
             alert.slack.api_base = \"{base}/slack/api\"\nalert.sentry.dsn = \"{}\"\n",
            self.dsn()
        )
    }

    /// From here on these are let in: the bot's token, the webhook's id and Sentry's key.
    pub fn change_secrets(&self, token: &str, webhook: &str, key: &str) {
        self.received().secrets = [token, webhook, key].map(str::to_owned);
    }

    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn webhook_url(&self) -> String {
        format!("{}/slack/webhook/{}", self.base(), self.received().secrets[1])
    }

    /// `[alert.webhook]` of a configuration that delivers here, and the secret it signs with.
    pub fn receiver_config(&self) -> String {
        let url = format!("{}/receiver", self.base());
        format!("alert.webhook.url = {url:?}\nalert.webhook.secret = {RECEIVER_SECRET:?}\n")
    }

    pub fn heartbeat_url(&self) -> String {
        format!("{}/heartbeat/h0fake", self.base())
    }

    pub fn dsn(&self) -> String {
        format!("http://{}@127.0.0.1:{}/sentry/42", self.received().secrets[2], self.port)
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn slack(&self, behaviour: Behaviour) {
        self.received().slack = behaviour;
    }

    pub fn sentry(&self, behaviour: Behaviour) {
        self.received().sentry = behaviour;
    }

    /// The receiver of signed deliveries.
    pub fn receiver(&self, behaviour: Behaviour) {
        self.received().receiver = behaviour;
    }

    pub fn delivered(&self) -> Vec<Delivered> {
        self.received().delivered.clone()
    }

    pub fn heartbeat(&self, behaviour: Behaviour) {
        self.received().heartbeat = behaviour;
    }

    /// Root messages, in the order they were posted.
    pub fn roots(&self) -> Vec<Message> {
        self.received()
            .messages
            .iter()
            .filter(|message| message.thread.is_none())
            .cloned()
            .collect()
    }

    /// The replies in a thread.
    pub fn replies(&self, ts: &str) -> Vec<Message> {
        self.received()
            .messages
            .iter()
            .filter(|message| message.thread.as_deref() == Some(ts))
            .cloned()
            .collect()
    }

    pub fn messages(&self) -> Vec<Message> {
        self.received().messages.clone()
    }

    /// The messages are gone, as if a person had deleted them.
    pub fn delete_messages(&self) {
        self.received().messages.clear();
    }

    pub fn calls(&self) -> Vec<(String, String, Instant)> {
        self.received().calls.clone()
    }

    pub fn webhooked(&self) -> Vec<Value> {
        self.received().webhook.clone()
    }

    pub fn events(&self) -> Vec<Value> {
        self.received().events.clone()
    }

    pub fn check_ins(&self) -> Vec<Value> {
        self.received().check_ins.clone()
    }

    pub fn pings(&self) -> usize {
        self.received().pings
    }

    /// Everything that was ever sent here.
    pub fn raw(&self) -> String {
        self.received().raw.join("\n")
    }
}

type Shared = State<Arc<Mutex<Received>>>;

fn lock(shared: &Arc<Mutex<Received>>) -> MutexGuard<'_, Received> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a behaviour answers before anything is looked at; `None`: look.
async fn misbehave(behaviour: &Behaviour) -> Option<Response> {
    match behaviour {
        Behaviour::Normal | Behaviour::TakesAndHangs => None,
        Behaviour::Overrun(seconds) => {
            let body = axum::Json(json!({ "ok": false, "error": "ratelimited" }));
            let after = [(header::RETRY_AFTER, seconds.to_string())];
            Some((StatusCode::TOO_MANY_REQUESTS, after, body).into_response())
        }
        Behaviour::Status(code) => Some(StatusCode::from_u16(*code).unwrap().into_response()),
        Behaviour::Hangs => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            None
        }
        Behaviour::Error(error) => {
            Some(axum::Json(json!({ "ok": false, "error": error })).into_response())
        }
    }
}

async fn sentry(
    State(shared): Shared,
    Path(project): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let behaviour = {
        let mut received = lock(&shared);
        received.raw.push(format!("sentry {}", String::from_utf8_lossy(&body)));
        received.sentry.clone()
    };
    if let Some(answer) = misbehave(&behaviour).await {
        return answer;
    }
    let key = headers.get("x-sentry-auth").and_then(|v| v.to_str().ok()).unwrap_or_default();
    let known = format!("sentry_key={}", lock(&shared).secrets[2]);
    if project != "42" || !key.contains(&known) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let text = String::from_utf8_lossy(&body);
    let mut lines = text.lines();
    lines.next();
    while let Some(header) = lines.next() {
        let header: HashMap<String, Value> = serde_json::from_str(header).unwrap_or_default();
        let item: Value =
            lines.next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        match header.get("type").and_then(Value::as_str) {
            Some("event") => lock(&shared).events.push(item),
            Some("check_in") => lock(&shared).check_ins.push(item),
            _ => return StatusCode::BAD_REQUEST.into_response(),
        }
    }
    if behaviour == Behaviour::TakesAndHangs {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    axum::Json(json!({})).into_response()
}

async fn heartbeat(State(shared): Shared) -> Response {
    let behaviour = lock(&shared).heartbeat.clone();
    if let Some(answer) = misbehave(&behaviour).await {
        return answer;
    }
    lock(&shared).pings += 1;
    "ok".into_response()
}

async fn received_json(State(shared): Shared) -> Response {
    let received = lock(&shared);
    let messages: Vec<Value> = received
        .messages
        .iter()
        .map(|m| json!({ "ts": m.ts, "thread": m.thread, "edits": m.edits, "body": m.body }))
        .collect();
    axum::Json(json!({
        "slack": messages,
        "webhook": received.webhook,
        "sentry": received.events,
        "check_ins": received.check_ins,
        "heartbeats": received.pings,
    }))
    .into_response()
}

/// Serves on a thread of its own until it is told to stop.
pub(crate) fn serve_until(
    listener: std::net::TcpListener,
    router: Router,
    stopped: tokio::sync::oneshot::Receiver<()>,
) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            tokio::select! {
                _ = axum::serve(listener, router) => {}
                _ = stopped => {}
            }
        });
    });
}
