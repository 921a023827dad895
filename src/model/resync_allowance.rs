//! Which resyncs use up the day's allowance, `resync.automatic_per_day_max`.

use super::reason::Reason;

impl Reason {
    /// Whether it counts towards `resync.automatic_per_day_max`. A collection that is made anew
    /// every hour (`$out`) is no sign of trouble, however often it happens; nor is that a table
    /// could not be written for a while, which its incident tells of.
    pub const fn is_counted(self) -> bool {
        self.is_automatic()
            && !matches!(self, Self::CollectionRecreated | Self::Rejoined | Self::Parked)
    }
}
