//! Asks the source, now and then, how far back its history reaches.

use std::sync::Arc;
use std::time::Duration;

use crate::settings::Settings;
use crate::source::Source;
use crate::status::Board;

const INTERVAL: Duration = Duration::from_secs(5);

/// Measures until aborted.
pub async fn probe(board: Arc<Board>, source: Source, configured: Option<Duration>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match source.history_window(configured).await {
            Ok(window) => {
                board.source_answers(true);
                for stream in board.streams() {
                    stream.history_window(window);
                    // A server without operation times answers with another clock than that of its
                    // events, which says nothing of how far the stream has come.
                    if source.tells_its_time() {
                        stream.applied(window.now);
                    }
                }
            }
            Err(fault) => {
                board.source_answers(false);
                tracing::debug!(hosts = source.shown(), "source not probed: {fault}");
            }
        }
    }
}

/// Writes the heartbeat document until aborted, where one is configured.
pub async fn beat(source: Source, settings: Arc<Settings>) {
    let Some(collection) = &settings.source.heartbeat_collection else { return };
    let mut tick = tokio::time::interval(settings.source.heartbeat_interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(fault) = source.beat(collection, &settings.service).await {
            tracing::warn!(collection, "heartbeat document not written: {fault}");
        }
    }
}
