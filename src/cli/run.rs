//! The daemon's command: from the first instant to the exit code.

use std::net::TcpListener;
use std::time::Duration;

use super::console::{complain, exit, misconfigured, next_step, runtime};
use super::signals::{self, Told};
use crate::error::Fault;
use crate::ops::{address, connection_strings};
use crate::settings::{Origin, Settings};
use crate::supervisor::{Daemon, Reloads};
use crate::telemetry;

/// How long the last lines of the log may take.
const FLUSH: Duration = Duration::from_millis(250);

pub(super) fn run(origin: Origin) -> u8 {
    let told = match signals::listen() {
        Ok(told) => told,
        Err(error) => {
            complain(&format!("signals cannot be listened to: {error}"));
            return exit::FAILED;
        }
    };
    let Some(runtime) = runtime() else { return exit::FAILED };
    let code = runtime.block_on(async {
        // Not waited for once told to stop: a secret's file may be a pipe that nobody writes to.
        let from = origin.clone();
        let load = tokio::task::spawn_blocking(move || Settings::load(&from));
        let loaded = tokio::select! {
            () = told.stop.cancelled() => return 0,
            loaded = load => loaded,
        };
        let judged = match loaded {
            Ok(Ok(settings)) => Ok(connection_strings::judge(&settings).await.map(|()| settings)),
            other => other,
        };
        match judged {
            Ok(Ok(settings)) => Box::pin(follow(settings, origin, told)).await,
            Ok(Err(problems)) => misconfigured(&problems),
            Err(_) => exit::FAILED,
        }
    });
    // Blocking DNS look-ups are not waited for.
    runtime.shutdown_background();
    telemetry::flush(FLUSH);
    code
}

async fn follow(settings: Settings, origin: Origin, told: Told) -> u8 {
    if let Err(why) = telemetry::start(&settings) {
        complain(&format!("{why}; mend log.filter"));
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
    match until_told(settings, &listener, &told, &Reloads::new(origin, told.reload.clone())).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("ended: {error:#}");
            exit::FAILED
        }
    }
}

/// Follows under one configuration after the other.
async fn until_told(
    mut settings: Settings,
    listener: &TcpListener,
    told: &Told,
    reloads: &Reloads,
) -> anyhow::Result<u8> {
    loop {
        let daemon = match Daemon::new(settings, listener.try_clone()?).await {
            Ok(daemon) => daemon,
            Err(fault) => return Ok(refused(&fault)),
        };
        let Some(next) = daemon.run(&told.stop, Some(reloads)).await? else {
            tracing::info!("stopped");
            return Ok(0);
        };
        settings = *next;
        if let Err(why) = telemetry::refilter(&settings) {
            tracing::warn!("the log goes on as it was: {why}");
        }
    }
}

/// Nothing has been connected to yet: what is refused is what the configuration says.
fn refused(fault: &Fault) -> u8 {
    tracing::error!("{fault}; {}", next_step(&fault.clone().into()));
    exit::CONFIGURATION
}
