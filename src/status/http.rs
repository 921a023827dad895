//! The status address: read-only, on a thread and runtime of its own, so that it answers whatever the rest does.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use super::Board;

/// Serves until told to stop. The listener is bound by the caller, so that a port in use is an error at start.
///
/// # Errors
/// The thread or its runtime cannot be started.
pub fn serve(
    listener: std::net::TcpListener,
    board: Arc<Board>,
    stop: CancellationToken,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("status".to_owned()).spawn(move || {
        let served = runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let shutdown = stop.clone();
            let server =
                axum::serve(listener, router(board)).with_graceful_shutdown(async move { stop.cancelled().await });
            // Open connections (a page left open) are not waited for longer than this.
            let last_call = async {
                shutdown.cancelled().await;
                tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            };
            tokio::select! {
                result = server.into_future() => result,
                () = last_call => Ok(()),
            }
        });
        if let Err(error) = served {
            tracing::error!(%error, "status address failed");
        }
    })
}

fn router(board: Arc<Board>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/", get(page))
        .with_state(board)
}

async fn livez(State(board): State<Arc<Board>>) -> Response {
    if board.is_alive() {
        (StatusCode::OK, "alive\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the process's loops stand still\n").into_response()
    }
}

async fn readyz(State(board): State<Arc<Board>>) -> Response {
    let reasons = board.unready();
    let code = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(serde_json::json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(State(board): State<Arc<Board>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], board.metrics_text()).into_response()
}

async fn status(State(board): State<Arc<Board>>) -> Response {
    Json(board.report()).into_response()
}

async fn page() -> Html<&'static str> {
    Html(include_str!("page.html"))
}
