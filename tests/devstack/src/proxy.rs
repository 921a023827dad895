//! A TCP proxy that misbehaves on command: cuts, stalls, resets, swallows a reply.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Result;

/// What the proxy does with what it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Accepts and forwards nothing, in either direction; connections stay open.
    Stall,
    /// Refuses: closes new connections at once.
    Refuse,
}

struct Shared {
    target: AtomicU16,
    mode: Mutex<Mode>,
    connections: Mutex<Vec<TcpStream>>,
    /// How many connections there have been, and how many of them, the first ones, are dead without
    /// a word.
    made: AtomicUsize,
    lost: AtomicUsize,
    /// A request holding these bytes is passed on, its reply is swallowed and the connection
    /// closed.
    swallow: Mutex<Option<Vec<u8>>>,
    swallowed: AtomicUsize,
    stop: AtomicBool,
}

/// Listens on a loopback port of its own and forwards to another.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn to(target: u16) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            mode: Mutex::new(Mode::Pass),
            connections: Mutex::default(),
            made: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            swallow: Mutex::default(),
            swallowed: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                if accepting.mode() == Mode::Refuse {
                    continue;
                }
                let target = accepting.target.load(Ordering::Relaxed);
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)) {
                    join(&accepting, client, server);
                }
            }
        });
        Ok(Self { port, shared })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead to another port; those that are open stay until they are cut.
    pub fn retarget(&self, port: u16) {
        self.shared.target.store(port, Ordering::Relaxed);
    }

    pub fn set(&self, mode: Mode) {
        if let Ok(mut current) = self.shared.mode.lock() {
            *current = mode;
        }
    }

    /// Closes every connection, in both directions.
    pub fn cut(&self) {
        if let Ok(mut connections) = self.shared.connections.lock() {
            for connection in connections.drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }

    /// From now on nothing passes on any connection there is, and neither end hears of it; new ones
    /// are well.
    pub fn lose(&self) {
        self.shared.lost.store(self.shared.made.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// The next request that holds `bytes` reaches the server; its reply is lost and the connection
    /// cut.
    pub fn swallow_reply_to(&self, bytes: &[u8]) {
        if let Ok(mut swallow) = self.shared.swallow.lock() {
            *swallow = Some(bytes.to_vec());
        }
    }

    /// How many replies were swallowed.
    pub fn swallowed(&self) -> usize {
        self.shared.swallowed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        self.mode.lock().map_or(Mode::Pass, |mode| *mode)
    }

    fn wants_swallowed(&self, request: &[u8]) -> bool {
        let Ok(mut swallow) = self.swallow.lock() else { return false };
        let found = swallow
            .as_ref()
            .is_some_and(|bytes| request.windows(bytes.len()).any(|part| part == bytes));
        if found {
            *swallow = None;
        }
        found
    }
}

fn join(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    if let Ok(mut connections) = shared.connections.lock() {
        connections.extend(client.try_clone());
        connections.extend(server.try_clone());
    }
    let doomed = Arc::new(AtomicBool::new(false));
    let number = shared.made.fetch_add(1, Ordering::SeqCst);
    let (Ok(client_out), Ok(server_out)) = (client.try_clone(), server.try_clone()) else { return };
    let (requests, replies) = (Arc::clone(shared), Arc::clone(shared));
    let doomed_too = Arc::clone(&doomed);
    std::thread::spawn(move || {
        pump(client, server_out, &requests, number, |bytes| {
            if requests.wants_swallowed(bytes) {
                doomed.store(true, Ordering::SeqCst);
            }
            true
        });
    });
    std::thread::spawn(move || {
        pump(server, client_out, &replies, number, |_| {
            let swallow = doomed_too.load(Ordering::SeqCst);
            if swallow {
                replies.swallowed.fetch_add(1, Ordering::Relaxed);
            }
            !swallow
        });
    });
}

/// Copies until an end closes or `pass` says no; waits while stalled.
fn pump(
    mut from: TcpStream,
    mut to: TcpStream,
    shared: &Shared,
    number: usize,
    mut pass: impl FnMut(&[u8]) -> bool,
) {
    let mut buffer = vec![0; 64 << 10];
    let stands = || shared.mode() == Mode::Stall || number < shared.lost.load(Ordering::SeqCst);
    while let Ok(length) = from.read(&mut buffer) {
        while stands() && !shared.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10));
        }
        if length == 0 || !pass(&buffer[..length]) || to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
