//! Scheduled comparisons of source and table, at a low rate, of the streams led here. Off unless
//! configured.

use std::sync::Arc;

use chrono::Utc;

use crate::model::phase::Phase;
use crate::ops::compare::{ComparePlan, compare};
use crate::pipeline::GroupContext;
use crate::settings::Settings;
use crate::state::StateTables;
use crate::status::ComparedReport;

/// Compares until aborted: each stream that is streaming here, one after the other, once an
/// interval.
pub async fn compare_on_schedule(
    groups: Arc<[GroupContext]>,
    state: StateTables,
    settings: Arc<Settings>,
) {
    let Some(interval) = settings.compare.interval else { return };
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for context in groups.iter().flat_map(|group| group.streams.iter()) {
            let streaming = context.status.report().phase == Phase::Streaming;
            if !context.status.leads() || !streaming {
                continue;
            }
            let plan = ComparePlan {
                sample: None,
                documents_per_second_max: settings.compare.documents_per_second_max,
            };
            context.status.comparing(true);
            match compare(&settings, &context.target, &state, &context.config, plan).await {
                // A note says that the stream lags: what it has still to apply is no divergence.
                Ok(found) if found.note.is_none() => context.status.compared(ComparedReport {
                    at: Utc::now(),
                    documents: found.documents,
                    missing: found.missing,
                    extra: found.extra.unwrap_or_default(),
                    different: found.different,
                }),
                Ok(_) => context.status.comparing(false),
                Err(fault) => {
                    context.status.comparing(false);
                    tracing::warn!(
                        stream = %context.config.name,
                        "comparison not completed: {fault}"
                    );
                }
            }
        }
    }
}
