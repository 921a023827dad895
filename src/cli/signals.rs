//! Signals, heard on a thread of their own: from the first instant, and whatever the rest of the
//! process waits for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::console::exit;
use crate::service_manager;
use crate::supervisor::STOP_WITHIN;
use crate::telemetry;

/// What a process that did not end in order is given beyond its time.
const GRACE: Duration = Duration::from_millis(200);

/// How long the last line of the log may take.
const FLUSH: Duration = Duration::from_millis(100);

/// What a shell reports of a process that was interrupted.
const INTERRUPTED: i32 = 130;

/// What the process is told by signals.
pub(super) struct Told {
    pub stop: CancellationToken,
    /// Take the configuration anew.
    pub reload: Arc<Notify>,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reload: Arc<Notify>,
}

/// From its return on SIGTERM and SIGINT tell to stop, the second of them ends the process at once,
/// and the process ends in time whatever hangs. SIGHUP ends nothing: it tells to reload.
///
/// # Errors
/// The handlers cannot be installed.
pub(super) fn listen() -> io::Result<Told> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let within = runtime.enter();
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hang_up: signal(SignalKind::hangup())?,
        reload: Arc::default(),
    };
    drop(within);
    let told = Told { stop: CancellationToken::new(), reload: Arc::clone(&signals.reload) };
    let stop = told.stop.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async move {
            signals.stop().await;
            service_manager::tell(service_manager::STOPPING);
            stop.cancel();
            let code = tokio::select! {
                () = signals.stop() => INTERRUPTED,
                () = tokio::time::sleep(STOP_WITHIN + GRACE) => {
                    tracing::error!("not everything ended in time: the process ends all the same");
                    exit::FAILED.into()
                }
            };
            telemetry::flush(FLUSH);
            std::process::exit(code);
        });
    })?;
    Ok(told)
}

impl Signals {
    /// Returns when the process is told to stop.
    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: the configuration is read anew");
                    self.reload.notify_one();
                }
            }
        }
    }
}
