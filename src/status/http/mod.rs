//! The status address: read-only, on a thread and runtime of its own, so that it answers whatever
//! the rest does.

mod card;
mod detail;
mod door;
mod guard;
mod html;
mod live;
mod page;
mod rates;
mod row;

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::Sse;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

pub use guard::Access;

use super::board::Board;
use crate::model::shown::{shown, shown_json};
use door::{Limits, Seat};
use live::Live;

/// What the handlers share.
#[derive(Debug, Clone)]
struct House {
    board: Arc<Board>,
    live: Arc<Live>,
}

/// Serves until told to stop. The listener is bound by the caller, so that a port in use is an
/// error at start.
///
/// # Errors
/// The thread or its runtime cannot be started.
pub fn serve(
    listener: std::net::TcpListener,
    board: Arc<Board>,
    access: Access,
    stop: CancellationToken,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _within = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    std::thread::Builder::new().name("status".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let limits = Limits::of_process();
            let live = Arc::new(Live::new(Arc::clone(&board), limits.viewers));
            let (sampled, kept) = (Arc::clone(&live), Arc::clone(&live));
            tokio::spawn(async move { sampled.sample().await });
            tokio::spawn(async move { kept.keep().await });
            door::keep(listener, router(House { board, live }, access), limits, stop).await;
        });
    })
}

fn router(house: House, access: Access) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/", get(page_now))
        .route("/stream/{name}", get(stream))
        .route("/events", get(events))
        .route(
            "/page.css",
            get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)),
        )
        .route(
            "/page.js",
            get(async || {
                ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], page::SCRIPT)
            }),
        )
        .layer(axum::middleware::from_fn_with_state(Arc::new(access), guard::guard))
        .with_state(house)
}

async fn livez(State(House { board, .. }): State<House>) -> Response {
    if board.is_alive() {
        (StatusCode::OK, "alive\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the process's loops stand still\n").into_response()
    }
}

async fn readyz(State(House { board, .. }): State<House>) -> Response {
    let reasons = board.unready();
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons })))
        .into_response()
}

async fn metrics(State(House { board, .. }): State<House>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], board.metrics_text())
        .into_response()
}

async fn status(State(House { board, .. }): State<House>) -> Response {
    json(&board.report())
}

fn json(report: &impl serde::Serialize) -> Response {
    let json = serde_json::to_string(report).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], shown_json(&json)).into_response()
}

async fn page_now(State(House { live, .. }): State<House>) -> Html<String> {
    Html(live.document())
}

/// All of one stream: for a program as in `/status`, for a person as a page.
async fn stream(
    State(House { board, live }): State<House>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok());
    let answer = if accepts.is_some_and(|accepts| accepts.contains("application/json")) {
        board.detail(&name).map(|(report, _)| json(&report))
    } else {
        live.stream(&name).map(|page| Html(page).into_response())
    };
    answer.unwrap_or_else(|| {
        let sentence = format!("no stream has the name {}; / lists them\n", shown(&name));
        (StatusCode::NOT_FOUND, sentence).into_response()
    })
}

/// What of the page has changed, whenever something has.
async fn events(
    State(House { live, .. }): State<House>,
    Extension(seat): Extension<Seat>,
) -> Response {
    match live.view() {
        Some(view) => {
            seat.stays();
            Sse::new(view).into_response()
        }
        None => {
            (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open already\n").into_response()
        }
    }
}
