//! Deletes old rows of tidemark's own tables, and old versions of followed rows: once an hour those
//! that have been over for longer than `[retention]` keeps them, and at once those that people ask
//! to be purged. The process that watches for incidents does it, which is one of a service and
//! environment.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::alert::Outbox;
use crate::ops::{purge, version_retention};
use crate::postgres::Target;
use crate::settings::Settings;
use crate::state::StateTables;

const LOOK_INTERVAL: Duration = Duration::from_secs(2);
const EXPIRE_INTERVAL: Duration = Duration::from_secs(3600);

/// Looks for old rows and for requests to purge until aborted.
pub(super) async fn keep(
    outbox: Arc<Outbox>,
    (target, state): (Target, StateTables),
    settings: Arc<Settings>,
) {
    let mut expired: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if !outbox.is_speaking() {
            continue;
        }
        if let Err(fault) = purge::obey(&state, settings.retry).await {
            tracing::debug!("requests to forget cannot be taken yet: {fault}");
            continue;
        }
        if expired.is_some_and(|at| at.elapsed() < EXPIRE_INTERVAL) {
            continue;
        }
        expired = Some(Instant::now());
        match purge::expire(&state, settings.retention).await {
            Ok(forgotten) if forgotten.iter().any(|of| of.rows > 0) => {
                tracing::info!("what was over is old: {}", purge::said(&forgotten));
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!(
                "what is over cannot be forgotten, it is tried again in an hour: {fault}"
            ),
        }
        match version_retention::expire(&settings, &target).await {
            Ok(0) => {}
            Ok(versions) => tracing::info!(versions, "versions were replaced long ago: forgotten"),
            Err(fault) => tracing::warn!(
                "old versions cannot be forgotten, it is tried again in an hour: {fault}"
            ),
        }
    }
}
