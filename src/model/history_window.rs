//! How far back a source's history reaches, and so how long a position has to live.

use std::time::Duration;

use super::position::ClusterTime;

/// What is known of the source's history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Horizon {
    /// Now, on the source's clock.
    pub now: ClusterTime,
    /// Seconds of history the source keeps; `None` where neither it nor configuration can tell.
    pub window_seconds: Option<f64>,
}

impl Horizon {
    /// Puts together what the server told (the oldest entry of its log) and what configuration
    /// says.
    pub fn new(
        now: ClusterTime,
        oldest: Option<ClusterTime>,
        configured: Option<Duration>,
    ) -> Self {
        let read = oldest.map(|oldest| now.seconds_since(oldest).max(0.0));
        Self { now, window_seconds: read.or_else(|| configured.map(|d| d.as_secs_f64())) }
    }

    /// Seconds until a position at `at` would age out; never below zero.
    pub fn headroom_seconds(&self, at: ClusterTime) -> Option<f64> {
        self.window_seconds.map(|window| (window - self.now.seconds_since(at).max(0.0)).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> ClusterTime {
        ClusterTime::new(seconds << 32)
    }

    #[test]
    fn headroom_is_the_window_less_the_positions_age() {
        let read = Horizon::new(at(10_000), Some(at(4_000)), Some(Duration::from_secs(1)));
        assert_eq!(read.window_seconds, Some(6_000.0));
        assert_eq!(read.headroom_seconds(at(9_000)), Some(5_000.0));
        assert_eq!(read.headroom_seconds(at(1_000)), Some(0.0));
        assert_eq!(read.headroom_seconds(at(11_000)), Some(6_000.0));
        let configured = Horizon::new(at(10_000), None, Some(Duration::from_secs(100)));
        assert_eq!(configured.headroom_seconds(at(9_950)), Some(50.0));
        assert_eq!(Horizon::new(at(10_000), None, None).headroom_seconds(at(1)), None);
    }
}
