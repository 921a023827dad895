//! Asks the source, now and then, how far back its history reaches.

use std::sync::Arc;
use std::time::Duration;

use crate::source::Source;
use crate::status::Board;

const INTERVAL: Duration = Duration::from_secs(5);

/// Measures until aborted.
pub async fn probe(board: Arc<Board>, source: Source, configured: Option<Duration>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match source.horizon(configured).await {
            Ok(horizon) => {
                board.source_answers(true);
                for stream in board.streams() {
                    stream.horizon(horizon);
                }
            }
            Err(fault) => {
                board.source_answers(false);
                tracing::debug!(hosts = source.shown(), "source not probed: {fault}");
            }
        }
    }
}
