//! The address's connections, limited in number and in time: slow clients, or many of them, take
//! neither the data path's file descriptors nor a probe's answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long a request's head may take, and how long a connection may be idle.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// How long a connection lives; a page left open makes a new one by itself. What is under way then
/// has a while to end.
const LIFE_MAX: Duration = Duration::from_secs(300);
const LIFE_GRACE: Duration = Duration::from_secs(10);

/// When the process ends, or takes another configuration: how long a connection that has just been
/// made is waited for to say what it wants, and how long all of it may take.
const FIRST_WORD: Duration = Duration::from_millis(100);
const LAST_CALL: Duration = Duration::from_millis(300);

/// A request's head, and no more, is kept of a client.
const HEAD_BYTES: usize = 16 << 10;

/// How long to wait for descriptors when there are none.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// How many may be in at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub connections: usize,
    /// Of these, pages left open.
    pub viewers: usize,
}

impl Limits {
    /// A quarter of what the process may open at most: the rest is the data path's.
    pub fn of_process() -> Self {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        Self::of(&limits)
    }

    fn of(limits: &str) -> Self {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let files = line
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or(1024_usize);
        let connections = (files / 4).clamp(16, 256);
        Self { connections, viewers: connections / 4 }
    }
}

/// Told to the request of a connection, and set once it is a page left open.
#[derive(Debug, Clone, Default)]
pub(super) struct Seat(Arc<AtomicBool>);

impl Seat {
    pub fn stays(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_staying(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Those who are in, oldest first.
#[derive(Debug)]
struct Guests {
    tasks: JoinSet<()>,
    seats: VecDeque<(AbortHandle, Seat)>,
    max: usize,
}

impl Guests {
    /// Where every seat is taken, the oldest connection that is no page left open is closed. A
    /// probe is answered in a moment, so it never is the oldest.
    fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.seats.retain(|(task, _)| !task.is_finished());
        if self.seats.len() >= self.max
            && let Some(oldest) = self.seats.iter().position(|(_, seat)| !seat.is_staying())
            && let Some((task, _)) = self.seats.remove(oldest)
        {
            task.abort();
        }
    }

    fn seat(&mut self, stream: TcpStream, router: Router, stop: CancellationToken) {
        let seat = Seat::default();
        let task = self.tasks.spawn(attend(stream, router, seat.clone(), stop));
        self.seats.push_back((task, seat));
    }
}

/// Accepts connections until told to stop.
pub(super) async fn keep(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let mut guests =
        Guests { tasks: JoinSet::new(), seats: VecDeque::new(), max: limits.connections };
    loop {
        let come = tokio::select! {
            () = stop.cancelled() => break,
            come = listener.accept() => come,
        };
        match come {
            Ok((stream, _)) => {
                guests.make_room();
                guests.seat(stream, router.clone(), stop.clone());
            }
            // No descriptors, most likely, or a client that left at once.
            Err(_) => tokio::time::sleep(EXHAUSTED_PAUSE).await,
        }
    }
    let gone = async { while guests.tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LAST_CALL, gone).await;
}

async fn attend(stream: TcpStream, router: Router, seat: Seat, stop: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(seat.clone());
        let answer = router.call(request);
        async move { answer.await as Result<Response, Infallible> }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let grace = tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.cancelled() => {
            let _ = tokio::time::timeout(FIRST_WORD, connection.as_mut()).await;
            LAST_CALL.saturating_sub(FIRST_WORD)
        }
        () = tokio::time::sleep(LIFE_MAX) => LIFE_GRACE,
    };
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(grace, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_path_keeps_three_descriptors_of_four() {
        let of = |soft: &str| {
            let text = format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax open files    {soft}    524288    \
                 files \n"
            );
            let Limits { connections, viewers } = Limits::of(&text);
            (connections, viewers)
        };
        assert_eq!(
            [of("1024"), of("400"), of("20"), of("unlimited")],
            [(256, 64), (100, 25), (16, 4), (256, 64)]
        );
        assert_eq!(Limits::of("").connections, 256);
    }
}
