//! What the fakes have received, for a person.

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};

use super::{Shared, lock};

/// The channel as it looks now, newest last, for a person.
pub async fn received(State(shared): Shared) -> Response {
    let received = lock(&shared);
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let mut page = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><meta http-equiv=refresh \
         content=2><title>fakes</title><style>body{font:15px/1.5 \
         system-ui;max-width:60rem;margin:1rem auto}pre{white-space:pre-wrap;border-left:4px solid \
         #888;padding-left:1rem}.reply{margin-left:3rem}</style><h1>What tidemark has \
         sent</h1><h2>Slack</h2>",
    );
    for message in &received.messages {
        let lines: Vec<&str> = message.body["blocks"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|b| {
                b["text"]["text"].as_str().or_else(|| b["elements"][0]["text"].as_str())
            })
            .collect();
        let class = if message.thread.is_some() { " class=reply" } else { "" };
        page.push_str(&format!(
            "<pre{class}>{}\n({} edits)</pre>",
            escape(&lines.join("\n")),
            message.edits
        ));
    }
    page.push_str(&format!("<h2>Sentry</h2><p>{} check-ins</p>", received.check_ins.len()));
    for event in &received.events {
        page.push_str(&format!("<pre>{}</pre>", escape(event["message"].as_str().unwrap_or("?"))));
    }
    page.push_str(&format!("<h2>Heartbeat</h2><p>{} pings</p>", received.pings));
    Html(page).into_response()
}
