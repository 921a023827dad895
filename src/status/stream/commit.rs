//! What of a stream is committed: its part of a batch, a chunk of a walk, a part of a sweep.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;

use super::{Inner, Stream};
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::position::{ClusterTime, Position};
use crate::model::step::Step;

/// What one committed batch came to.
#[derive(Debug, Default)]
pub struct Committed<'a> {
    /// By operation, in the order of [`crate::model::event::Operation::ROWS`].
    pub received: [u64; 4],
    /// Dead letters among them, by operation.
    pub not_applied: [u64; 4],
    /// Updates whose document was gone.
    pub gone: u64,
    /// Changes to documents that are not followed, by operation.
    pub filtered: [u64; 4],
    /// A chunk of a walk or a part of a sweep, not a batch.
    pub of_walk: bool,
    pub rows_changed: u64,
    pub rows_unchanged: u64,
    /// By code.
    pub dead_letters: BTreeMap<DeadLetterCode, u64>,
    /// The group's position, told in the same call where the stream is alone in its group.
    pub position: Option<&'a Position>,
    pub last_event: Option<ClusterTime>,
    pub written_at_millis: &'a [i64],
    pub took: Duration,
}

impl Stream {
    /// Events came while it was parked: the resync that repairs it makes up for them.
    pub fn left_out(&self, events: u64) {
        if events == 0 {
            return;
        }
        let mut state = self.change();
        state.report.events_received += events;
        state.report.events_skipped += events;
        drop(state);
        let Inner { metrics, label, .. } = &*self.inner;
        let skipped = &metrics.batches.events_skipped;
        skipped.with_label_values(&[label.as_str(), "parked"]).inc_by(events);
    }

    /// What of a batch, a chunk or a sweep is the stream's was committed.
    pub fn committed(&self, work: &Committed<'_>) {
        let received: u64 = work.received.iter().sum();
        let not_applied: u64 = work.not_applied.iter().sum();
        let mut state = self.change();
        let report = &mut state.report;
        report.events_received += received;
        let skipped = work.gone + work.filtered.iter().sum::<u64>();
        report.events_applied += received.saturating_sub(not_applied + skipped);
        report.events_skipped += skipped;
        report.rows_changed += work.rows_changed;
        report.rows_unchanged += work.rows_unchanged;
        report.dead_letters += work.dead_letters.values().sum::<u64>();
        for (code, number) in &work.dead_letters {
            *report.dead_letters_by_code.entry(*code).or_default() += number;
        }
        if let Some(at) = work.last_event {
            report.last_event_at = Some(at.at());
        }
        if !work.dead_letters.is_empty() {
            state.lacks = true;
            state.show_exact();
        }
        if work.of_walk {
            state.works(&[Step::Walk, Step::Sweep]);
        }
        drop(state);
        match work.position {
            Some(position) => self.inner.group.positioned(position, received, work.took),
            None => self.inner.group.wrote(),
        }
        self.count_committed(work, received);
    }

    fn count_committed(&self, work: &Committed<'_>, received: u64) {
        let Inner { label, metrics, series, sizes, .. } = &*self.inner;
        let [inserts, updates, replaces, deletes] = work.filtered;
        let skipped = [inserts, updates + work.gone, replaces, deletes];
        series.count(work.received, work.not_applied, skipped);
        series.rows_changed.inc_by(work.rows_changed);
        series.rows_unchanged.inc_by(work.rows_unchanged);
        let filtered = work.filtered.iter().sum();
        for (reason, number) in [("document_gone", work.gone), ("filtered", filtered)] {
            if number > 0 {
                let skipped = &metrics.batches.events_skipped;
                skipped.with_label_values(&[label.as_str(), reason]).inc_by(number);
            }
        }
        for (code, number) in &work.dead_letters {
            let code = code.name();
            metrics.batches.dead_letters.with_label_values(&[label.as_str(), code]).inc_by(*number);
            tracing::warn!(stream = self.name(), code, number, "events set aside in dead_letter");
        }
        if let Some(sizes) = sizes.as_ref().filter(|_| received > 0) {
            sizes.observe(received, work.took);
        }
        let now = Utc::now();
        for written in work.written_at_millis {
            let millis = i32::try_from(now.timestamp_millis() - written).unwrap_or(i32::MAX).max(0);
            series.latency.observe(f64::from(millis) / 1000.0);
        }
    }
}
