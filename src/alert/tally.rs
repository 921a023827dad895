//! What is counted towards the weekly summary, from what leaders report. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::status::StreamReport;

/// So many leaders' counters are kept for each group: of one that leads again, they go on.
const LEADERS_MAX: usize = 4;

/// Counted since a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeekTally {
    pub since: DateTime<Utc>,
    pub events_applied: u64,
    pub rows_changed: u64,
    /// The longest lag that was met.
    pub lag: Option<Extreme>,
    /// The shortest headroom that was met.
    pub headroom: Option<Extreme>,
    /// The counters of each group's leaders, as last met: they begin anew with a process.
    seen: BTreeMap<String, BTreeMap<String, (u64, u64)>>,
}

/// A number of seconds, of which group, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Extreme {
    pub seconds: f64,
    pub group: String,
    pub at: DateTime<Utc>,
}

impl WeekTally {
    pub const fn new(since: DateTime<Utc>) -> Self {
        Self {
            since,
            events_applied: 0,
            rows_changed: 0,
            lag: None,
            headroom: None,
            seen: BTreeMap::new(),
        }
    }

    /// Counting goes on from here for the next summary.
    #[must_use]
    pub fn anew(&self, since: DateTime<Utc>) -> Self {
        Self { seen: self.seen.clone(), ..Self::new(since) }
    }

    /// Takes in what leaders say at `now`, of all streams.
    pub fn see(&mut self, now: DateTime<Utc>, reports: &[StreamReport]) {
        // What was counted before the first look is of no known time.
        let is_first = self.seen.is_empty();
        let mut sums: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
        for report in reports.iter().filter(|report| report.leader) {
            let of = (report.group.as_str(), report.holder.as_deref().unwrap_or_default());
            let sum = sums.entry(of).or_default();
            sum.0 += report.events_applied;
            sum.1 += report.rows_changed;
            self.meet(now, report);
        }
        for ((group, holder), sum) in sums {
            let leaders = self.seen.entry(group.to_owned()).or_default();
            let known = leaders.insert(holder.to_owned(), sum);
            let before = if is_first { sum } else { known.unwrap_or_default() };
            self.events_applied += grown(before.0, sum.0);
            self.rows_changed += grown(before.1, sum.1);
            if leaders.len() > LEADERS_MAX {
                leaders.retain(|leader, _| leader == holder);
            }
        }
    }

    fn meet(&mut self, now: DateTime<Utc>, report: &StreamReport) {
        let extreme = |seconds| Extreme { seconds, group: report.group.clone(), at: now };
        let lag = report.lag_seconds;
        if lag > self.lag.as_ref().map_or(0.0, |worst| worst.seconds) {
            self.lag = Some(extreme(lag));
        }
        if let Some(left) = report.headroom_seconds
            && self.headroom.as_ref().is_none_or(|worst| left < worst.seconds)
        {
            self.headroom = Some(extreme(left));
        }
    }
}

/// How far a counter has come, which may have begun anew.
const fn grown(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(holder: &str, events: u64, lag: f64, headroom: f64) -> StreamReport {
        StreamReport {
            group: "main".to_owned(),
            leader: true,
            holder: Some(holder.to_owned()),
            events_applied: events,
            rows_changed: events / 2,
            lag_seconds: lag,
            headroom_seconds: Some(headroom),
            ..StreamReport::new("doctor", "db.c", "public.t")
        }
    }

    #[test]
    fn counters_that_begin_anew_or_go_over_to_another_leader_are_counted_once() {
        let now = DateTime::UNIX_EPOCH;
        let mut tally = WeekTally::new(now);
        for (holder, events, counted) in [
            ("a/1", 100, 0),  // of before the first look
            ("a/1", 140, 40), // forty more
            ("a/1", 140, 40), // a quiet while
            ("b/2", 10, 50),  // taken over
            ("a/1", 150, 60), // and back
            ("a/1", 5, 65),   // begun anew by a reload
            ("c/3", 0, 65),
        ] {
            tally.see(now, &[report(holder, events, 0.0, 60.0)]);
            assert_eq!(tally.events_applied, counted, "{holder} at {events}");
        }
        let told: WeekTally =
            serde_json::from_value(serde_json::to_value(&tally).unwrap()).unwrap();
        assert_eq!(told, tally, "it is kept as it is");
        let mut next = tally.anew(now);
        next.see(now, &[report("c/3", 7, 0.0, 60.0)]);
        assert_eq!((next.events_applied, next.rows_changed), (7, 3));
        for restart in 0..20 {
            next.see(now, &[report(&format!("d/{restart}"), 1, 0.0, 60.0)]);
        }
        assert_eq!(next.events_applied, 27);
        assert!(next.seen["main"].len() <= LEADERS_MAX, "processes come and go");
    }

    #[test]
    fn the_longest_lag_and_the_shortest_headroom_are_kept() {
        let now = DateTime::UNIX_EPOCH;
        let mut tally = WeekTally::new(now);
        for (lag, headroom) in [(0.0, 60.0), (12.0, 40.0), (3.0, 50.0)] {
            tally.see(now, &[report("a/1", 0, lag, headroom)]);
        }
        let seconds = |extreme: &Option<Extreme>| extreme.as_ref().map(|extreme| extreme.seconds);
        assert_eq!((seconds(&tally.lag), seconds(&tally.headroom)), (Some(12.0), Some(40.0)));
        let mut idle = report("a/1", 9, 99.0, 1.0);
        idle.leader = false;
        tally.see(now, &[idle]);
        assert_eq!(seconds(&tally.lag), Some(12.0), "nobody leads it: it tells of before");
    }
}
