//! How far back a source's history reaches, and so how long a position has to live.

use std::time::Duration;

use super::position::ClusterTime;
use super::severity::Severity;

/// What is known of the source's history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HistoryWindow {
    /// Now, on the source's clock.
    pub now: ClusterTime,
    /// Seconds of history the source keeps; `None` where neither it nor configuration can tell.
    pub window_seconds: Option<f64>,
}

impl HistoryWindow {
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

    /// What of it is left to a position at `at`; `None` where the window is unknown.
    pub fn headroom(&self, at: ClusterTime) -> Option<Headroom> {
        let window = self.window_seconds?;
        let left = (window - self.now.seconds_since(at).max(0.0)).max(0.0);
        Some(Headroom { left, window })
    }
}

/// How long a position has to live, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Headroom {
    /// Until it would age out; never below zero.
    pub left: f64,
    /// What the source keeps.
    pub window: f64,
}

impl Headroom {
    /// Less than this share of the window is a warning.
    pub const WARNING: f64 = 0.5;

    /// Less than this share is critical.
    pub const CRITICAL: f64 = 0.25;

    /// How bad it is; `None` if there is enough, or the window is not known to be one.
    pub fn severity(self) -> Option<Severity> {
        if self.window <= 0.0 || self.left >= self.window * Self::WARNING {
            None
        } else if self.left >= self.window * Self::CRITICAL {
            Some(Severity::Warning)
        } else {
            Some(Severity::Critical)
        }
    }

    /// From 0 to 1.
    pub fn share(self) -> f64 {
        if self.window > 0.0 { (self.left / self.window).clamp(0.0, 1.0) } else { 0.0 }
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
        let read = HistoryWindow::new(at(10_000), Some(at(4_000)), Some(Duration::from_secs(1)));
        assert_eq!(read.window_seconds, Some(6_000.0));
        let left = |window: HistoryWindow, at| window.headroom(at).map(|headroom| headroom.left);
        assert_eq!(left(read, at(9_000)), Some(5_000.0));
        assert_eq!(left(read, at(1_000)), Some(0.0));
        assert_eq!(left(read, at(11_000)), Some(6_000.0));
        let configured = HistoryWindow::new(at(10_000), None, Some(Duration::from_secs(100)));
        assert_eq!(left(configured, at(9_950)), Some(50.0));
        assert_eq!(left(HistoryWindow::new(at(10_000), None, None), at(1)), None);
    }

    #[test]
    fn half_of_the_window_is_a_warning_and_a_quarter_critical() {
        let severity = |left, window| Headroom { left, window }.severity();
        assert_eq!(severity(50.0, 100.0), None);
        assert_eq!(severity(49.9, 100.0), Some(Severity::Warning));
        assert_eq!(severity(25.0, 100.0), Some(Severity::Warning));
        assert_eq!(severity(24.9, 100.0), Some(Severity::Critical));
        assert_eq!(severity(0.0, 0.0), None, "a source that has written nothing yet");
    }
}
