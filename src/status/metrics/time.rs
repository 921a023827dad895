//! When things last happened, and how far the position is from where it should be.

use chrono::{DateTime, Utc};
use prometheus::GaugeVec;

use super::maker::Maker;

#[derive(Debug)]
pub struct Times {
    pub last_poll: GaugeVec,
    pub last_commit: GaugeVec,
    pub last_event: GaugeVec,
    pub position: GaugeVec,
    pub history_window: GaugeVec,
    pub headroom: GaugeVec,
    pub lag: GaugeVec,
}

impl Times {
    /// `by`: the label of those series that are not by stream whatever their number.
    pub fn new(make: &Maker, by: &str) -> Self {
        let gauge = |name, help| make.gauge(name, help, by);
        Self {
            last_poll: gauge("last_poll_timestamp_seconds", "When the source last answered"),
            last_commit: gauge(
                "last_commit_timestamp_seconds",
                "When the position was last committed",
            ),
            last_event: gauge(
                "last_event_timestamp_seconds",
                "Cluster time of the last event committed",
            ),
            position: make.gauge(
                "position_timestamp_seconds",
                "Cluster time of the stored position",
                "stream",
            ),
            history_window: gauge(
                "history_window_seconds",
                "History the source keeps; NaN where unknown",
            ),
            headroom: gauge(
                "headroom_seconds",
                "Time until the stored position ages out; NaN where unknown",
            ),
            lag: make.gauge(
                "lag_seconds",
                "How far the stored position is behind the source, on its clock",
                "stream",
            ),
        }
    }
}

/// A time as a gauge has it: seconds since 1970.
pub fn seconds(at: DateTime<Utc>) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds since 1970 are exact in a double for 280,000 years"
    )]
    let millis = at.timestamp_millis() as f64;
    millis / 1000.0
}
