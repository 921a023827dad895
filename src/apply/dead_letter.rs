//! Events set aside whole, and the rate above which that is no longer an accident.

use std::collections::VecDeque;

use crate::model::position::ClusterTime;
use crate::settings::Record;

/// One event that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub document_id: Option<String>,
    /// The event's operation, or `snapshot` for a document read by a walk.
    pub operation: &'static str,
    /// Raw BSON, whole.
    pub event: Vec<u8>,
    /// `malformed`, or Postgres's refusal.
    pub code: String,
    pub error: String,
    pub cluster_time: Option<ClusterTime>,
}

/// Dead letters among the last 10,000 events.
#[derive(Debug)]
pub struct RateWindow {
    limits: Record,
    recent: VecDeque<(u64, u64)>,
    events: u64,
    dead: u64,
}

const WINDOW_EVENTS: u64 = 10_000;

impl RateWindow {
    pub const fn new(limits: Record) -> Self {
        Self { limits, recent: VecDeque::new(), events: 0, dead: 0 }
    }

    /// How many more dead letters a batch may bring before the rate is exceeded.
    pub fn allowance(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fraction of 10,000, from 0 to 10,000"
        )]
        let by_fraction = (self.limits.dead_letter_fraction_max * 10_000.0) as u64;
        by_fraction.max(self.limits.dead_letter_count_min).saturating_sub(self.dead)
    }

    /// Takes a committed batch into the window.
    pub fn add(&mut self, events: u64, dead: u64) {
        self.recent.push_back((events, dead));
        self.events += events;
        self.dead += dead;
        while let Some(&(events, dead)) = self.recent.front() {
            if self.events - events < WINDOW_EVENTS {
                break;
            }
            self.recent.pop_front();
            self.events -= events;
            self.dead -= dead;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_forgets_and_the_smaller_limit_yields_to_the_larger() {
        let mut window = RateWindow::new(Record { dead_letter_fraction_max: 0.001, dead_letter_count_min: 50 });
        assert_eq!(window.allowance(), 50);
        window.add(100, 30);
        assert_eq!(window.allowance(), 20);
        window.add(10_000, 0);
        assert_eq!(window.allowance(), 50);
        let wide = RateWindow::new(Record { dead_letter_fraction_max: 0.01, dead_letter_count_min: 0 });
        assert_eq!(wide.allowance(), 100);
    }
}
