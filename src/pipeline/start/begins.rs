//! Where a group begins: what is known of its stored position, and of those of its streams' own.

use chrono::{DateTime, Utc};

use crate::model::position::{ClusterTime, Position};
use crate::model::reason::Reason;
use crate::state::{OwnPosition, Stored};

/// Where a group begins.
pub(in crate::pipeline) struct Begins {
    /// The stored position, if it can be used.
    pub stored: Option<Position>,
    /// Why it cannot, if there is one.
    pub lost: Option<(Reason, String)>,
    /// What streams had of their own under an older release, and whether it can be gone on from.
    pub own: Vec<(OwnPosition, bool)>,
}

/// The last that is known of the group: its position's time, else when its row was last written.
pub fn blind_from(stored: &Stored) -> Option<DateTime<Utc>> {
    stored
        .time()
        .map(ClusterTime::at)
        .or_else(|| (stored.revision > 0).then_some(stored.updated_at))
}
