//! The daemon's command: from the first instant to the exit code.

use std::net::TcpListener;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::console::{complain, exit, runtime};
use super::signals;
use crate::error::Fault;
use crate::ops::{address, connection_strings};
use crate::settings::{Origin, Settings};
use crate::supervisor::Daemon;
use crate::telemetry;

/// How long the last lines of the log may take.
const FLUSH: Duration = Duration::from_millis(250);

pub(super) fn run(origin: Origin) -> u8 {
    let stop = match signals::listen() {
        Ok(stop) => stop,
        Err(error) => {
            complain(&format!("signals cannot be listened to: {error}"));
            return exit::FAILED;
        }
    };
    let Some(runtime) = runtime() else { return exit::FAILED };
    let code = runtime.block_on(async {
        // Not waited for once told to stop: a secret's file may be a pipe that nobody writes to.
        let load = tokio::task::spawn_blocking(move || Settings::load(&origin));
        let loaded = tokio::select! {
            () = stop.cancelled() => return 0,
            loaded = load => loaded,
        };
        let judged = match loaded {
            Ok(Ok(settings)) => Ok(connection_strings::judge(&settings).await.map(|()| settings)),
            other => other,
        };
        match judged {
            Ok(Ok(settings)) => follow(settings, stop).await,
            Ok(Err(problems)) => {
                complain(&problems.to_string());
                exit::CONFIGURATION
            }
            Err(_) => exit::FAILED,
        }
    });
    // Blocking DNS look-ups are not waited for.
    runtime.shutdown_background();
    telemetry::flush(FLUSH);
    code
}

async fn follow(settings: Settings, stop: CancellationToken) -> u8 {
    if let Err(why) = telemetry::start(&settings) {
        complain(&why);
        return exit::CONFIGURATION;
    }
    telemetry::on_panic(|_| {});
    let listen = settings.status.listen;
    let listener = match TcpListener::bind(listen) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(
                "status.listen {listen} cannot be listened on: {error}; name a free port"
            );
            return exit::CONFIGURATION;
        }
    };
    let shown = listener.local_addr().unwrap_or(listen);
    tracing::info!(
        version = crate::VERSION,
        commit = crate::COMMIT,
        streams = settings.streams.len(),
        "starting; status at http://{shown}/"
    );
    if address::is_open(&settings) {
        tracing::warn!("status.listen is {}; {}", address::describe(&settings), address::REMEDY);
    }
    let daemon = match Daemon::new(settings, listener).await {
        Ok(daemon) => daemon,
        Err(fault) => return refused(&fault),
    };
    match daemon.run(stop).await {
        Ok(()) => {
            tracing::info!("stopped");
            0
        }
        Err(error) => {
            tracing::error!("ended: {error:#}");
            exit::FAILED
        }
    }
}

/// Nothing has been connected to yet: what is refused is what the configuration says.
fn refused(fault: &Fault) -> u8 {
    tracing::error!("{fault}; {}", fault.hint);
    exit::CONFIGURATION
}
