//! What of a stream is committed: a batch, a chunk of a walk, an idle position.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Stream;
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::position::{ClusterTime, Position};
use crate::model::step::Step;
use crate::status::metrics::seconds;

/// What one committed batch came to.
#[derive(Debug, Default)]
pub struct Committed<'a> {
    /// By operation, in the order of [`crate::model::event::Operation::ROWS`].
    pub received: [u64; 4],
    /// Dead letters among them, by operation.
    pub not_applied: [u64; 4],
    /// Updates whose document was gone.
    pub gone: u64,
    /// A chunk of a walk or a part of a sweep, not a batch.
    pub of_walk: bool,
    pub rows_changed: u64,
    pub rows_unchanged: u64,
    /// By code.
    pub dead_letters: BTreeMap<DeadLetterCode, u64>,
    pub position: Option<&'a Position>,
    pub last_event: Option<ClusterTime>,
    pub written_at_millis: &'a [i64],
    pub took: Duration,
}

impl Stream {
    /// A batch, a chunk or an idle position was committed.
    pub fn committed(&self, work: &Committed<'_>) {
        let now = Utc::now();
        let (received, gone): (u64, u64) = (work.received.iter().sum(), work.gone);
        let not_applied: u64 = work.not_applied.iter().sum();
        let mut state = self.state();
        let report = &mut state.report;
        report.last_commit_at = Some(now);
        report.events_received += received;
        report.events_applied += received.saturating_sub(not_applied + gone);
        report.events_skipped += gone;
        report.rows_changed += work.rows_changed;
        report.rows_unchanged += work.rows_unchanged;
        report.dead_letters += work.dead_letters.values().sum::<u64>();
        for (code, number) in &work.dead_letters {
            *report.dead_letters_by_code.entry(*code).or_default() += number;
        }
        if let Some(at) = work.last_event {
            report.last_event_at = Some(at.at());
        }
        if let Some(position) = work.position {
            self.place(&mut state, position);
        }
        let works: &[Step] = if work.of_walk {
            &[Step::Apply, Step::Walk, Step::Sweep]
        } else {
            &[Step::Apply, Step::Lookup]
        };
        state.works(works);
        drop(state);
        self.proved();
        self.count_committed(work, now, received);
    }

    fn count_committed(&self, work: &Committed<'_>, now: DateTime<Utc>, received: u64) {
        self.series.count(work.received, work.not_applied, work.gone);
        self.series.rows_changed.inc_by(work.rows_changed);
        self.series.rows_unchanged.inc_by(work.rows_unchanged);
        self.metrics.times.last_commit.with_label_values(&[&*self.name]).set(seconds(now));
        if work.gone > 0 {
            self.metrics
                .batches
                .events_skipped
                .with_label_values(&[&*self.name, "document_gone"])
                .inc_by(work.gone);
        }
        for (code, number) in &work.dead_letters {
            let code = code.name();
            self.metrics
                .batches
                .dead_letters
                .with_label_values(&[&*self.name, code])
                .inc_by(*number);
            tracing::warn!(stream = %self.name, code, number, "events set aside in dead_letter");
        }
        if let Some(at) = work.last_event {
            self.metrics
                .times
                .last_event
                .with_label_values(&[&*self.name])
                .set(f64::from(at.seconds()));
        }
        if received > 0 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a batch holds far fewer than 2^52 events"
            )]
            self.series.batch_events.observe(received as f64);
            self.series.batch_commit_seconds.observe(work.took.as_secs_f64());
        }
        for written in work.written_at_millis {
            let millis = i32::try_from(now.timestamp_millis() - written).unwrap_or(i32::MAX).max(0);
            self.series.latency.observe(f64::from(millis) / 1000.0);
        }
    }
}
