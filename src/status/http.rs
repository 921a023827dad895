//! The status address: read-only, on a thread and runtime of its own, so that it answers whatever the rest does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Board, page};
use crate::model::shown::shown_json;

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
            let sampled = Arc::clone(&board);
            tokio::spawn(async move { sampled.sample().await });
            let shutdown = stop.clone();
            let server =
                axum::serve(listener, router(board)).with_graceful_shutdown(async move { stop.cancelled().await });
            // Open connections (a page left open) are not waited for longer than this.
            let last_call = async {
                shutdown.cancelled().await;
                tokio::time::sleep(Duration::from_millis(500)).await;
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
        .route("/", get(page_now))
        .route("/events", get(events))
        .route("/page.css", get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], page::STYLE)))
        .route("/page.js", get(async || ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], page::SCRIPT)))
        .layer(axum::middleware::map_response(guard))
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
    let json = serde_json::to_string(&board.report()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], shown_json(&json)).into_response()
}

async fn page_now(State(board): State<Arc<Board>>) -> Html<String> {
    Html(board.page(true))
}

/// So many pages may be left open; the next one shows what was at its loading.
const PAGES_MAX: usize = 64;

/// The page's body whenever it has changed, looked at once a second.
async fn events(State(board): State<Arc<Board>>) -> Response {
    let Ok(place) = Arc::clone(&board.pages).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let tick = tokio::time::interval(Duration::from_secs(1));
    let stream = futures_util::stream::unfold((board, tick, place), |(board, mut tick, place)| async move {
        tick.tick().await;
        let event = Event::default().data(board.page(false));
        Some((Ok::<_, std::convert::Infallible>(event), (board, tick, place)))
    });
    Sse::new(stream).into_response()
}

pub(super) fn pages() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(PAGES_MAX))
}

/// Nothing from elsewhere, nothing inline, in no frame, in no cache.
async fn guard(mut response: Response) -> Response {
    const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
