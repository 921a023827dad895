//! Whether a majority of the source's members confirms what its primary has written. Pure: the time
//! is passed in.
//!
//! A change stream shows only what is confirmed. Where too few members replicate, it is silent and
//! its token stands still, which looks just like a source where nothing happens.

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::position::ClusterTime;

/// What was written is confirmed within moments; after this time it counts as not confirmed.
const PATIENCE: TimeDelta = TimeDelta::seconds(15);

/// What is known of the source's primary and of its majority.
#[derive(Debug, Default)]
pub(super) struct Majority {
    /// The newest that the primary has applied.
    applied: Option<ClusterTime>,
    /// What it had applied when it was asked, and when that was: until a majority has it.
    mark: Option<(ClusterTime, DateTime<Utc>)>,
    since: Option<DateTime<Utc>>,
}

impl Majority {
    /// What the primary has applied, confirmed or not. An idle one writes something every ten
    /// seconds.
    pub fn applied(&mut self, at: ClusterTime, now: DateTime<Utc>) {
        self.applied = Some(at);
        self.mark.get_or_insert((at, now));
    }

    /// A reply shows what a majority has, up to here.
    pub fn confirmed(&mut self, up_to: ClusterTime, now: DateTime<Utc>) {
        match self.mark {
            Some((mark, at)) if up_to < mark => self.since = (now - at > PATIENCE).then_some(at),
            _ => (self.mark, self.since) = (None, None),
        }
    }

    /// The newest that the primary has applied.
    pub const fn newest(&self) -> Option<ClusterTime> {
        self.applied
    }

    /// Since when something written is not confirmed; `None` if all is well.
    pub const fn unconfirmed_since(&self) -> Option<DateTime<Utc>> {
        self.since
    }

    /// How far what is confirmed is behind, on the source's clock, if it stands still.
    pub fn lag_seconds(&self, position: ClusterTime) -> Option<f64> {
        self.since.and(self.applied).map(|applied| applied.seconds_since(position).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_confirmed_is_told_and_an_idle_source_or_a_moments_delay_is_not() {
        let start: DateTime<Utc> = "2026-11-21T05:29:00Z".parse().unwrap();
        let time = |second: i64| ClusterTime::new(u64::try_from(1_000 + second).unwrap() << 32);
        // Probed every five seconds, polled every second; `applied` and `confirmed` are seconds of
        // the source's clock.
        let lag = |seconds: i64, applied: fn(i64) -> i64, confirmed: fn(i64) -> i64| {
            let mut majority = Majority::default();
            for second in 0..seconds {
                let now = start + TimeDelta::seconds(second);
                if second % 5 == 0 {
                    majority.applied(time(applied(second)), now);
                }
                majority.confirmed(time(confirmed(second)), now);
            }
            majority.lag_seconds(time(confirmed(seconds - 1)))
        };
        assert_eq!(
            lag(300, |s| s / 10 * 10, |s| s / 10 * 10),
            None,
            "idle: a no-op every ten seconds"
        );
        assert_eq!(lag(300, |s| s, |s| s - 3), None, "busy, and confirmed three seconds later");
        assert_eq!(lag(15, |s| s, |_| 0), None, "not yet");
        assert_eq!(lag(121, |s| s, |_| 0), Some(120.0), "it stands still");
        assert_eq!(
            lag(121, |s| s / 10 * 10, |_| 0),
            Some(120.0),
            "it stands still, and nobody writes"
        );
        assert_eq!(lag(301, |s| s, |s| s - 60), Some(60.0), "it creeps behind");
        assert_eq!(lag(301, |s| s, |s| if s < 200 { 0 } else { s }), None, "it moves again");
    }
}
