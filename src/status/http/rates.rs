//! What each stream did over the last minutes, for the page's small charts. Sampled by the status
//! address itself.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::status::stream_report::StreamReport;

/// How often a sample is taken, and how many are kept: five minutes.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
const KEPT: usize = 150;

/// Events a second and lag, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    pub events: VecDeque<f64>,
    pub rows: VecDeque<f64>,
    pub lag: VecDeque<f64>,
    last: Option<(u64, u64)>,
}

impl Rates {
    fn sample(&mut self, report: &StreamReport) {
        let now = (report.events_received, report.rows_changed + report.rows_unchanged);
        let before = self.last.replace(now).unwrap_or(now);
        #[expect(clippy::cast_precision_loss, reason = "a few seconds' events")]
        let rate =
            |now: u64, before: u64| now.saturating_sub(before) as f64 / INTERVAL.as_secs_f64();
        let values = [rate(now.0, before.0), rate(now.1, before.1), report.lag_seconds];
        for (kept, value) in
            [&mut self.events, &mut self.rows, &mut self.lag].into_iter().zip(values)
        {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(value);
        }
    }
}

/// The rates of every stream, in the order of configuration.
#[derive(Debug, Default)]
pub(super) struct Sampler(Mutex<Vec<Rates>>);

impl Sampler {
    pub fn sample(&self, streams: &[StreamReport]) {
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rates.resize_with(streams.len(), Rates::default);
        for (rates, stream) in rates.iter_mut().zip(streams) {
            rates.sample(stream);
        }
    }

    pub fn rates(&self) -> Vec<Rates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
