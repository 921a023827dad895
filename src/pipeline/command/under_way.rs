//! Why no walk begins while one is open, and what can be done about that one. Pure.

use crate::model::resync_state::ResyncState;
use crate::state::WalkRow;

/// What is said of the open walk, which may be one that has to be completed.
pub(super) fn under_way(open: &WalkRow, is_owed: bool) -> String {
    let way_on = match open.state() {
        _ if open.is_snapshot() => {
            "it is the first snapshot, which repairs whatever there is".to_owned()
        }
        ResyncState::Held if is_owed => {
            format!("`tidemark resync approve {} --reason TEXT --execute` lets it go on", open.id)
        }
        ResyncState::Held => format!(
            "`tidemark resync approve {0} --reason TEXT --execute` lets it go on, `cancel {0}` \
             ends it",
            open.id
        ),
        _ if is_owed => "it has to be completed, and repairs whatever there is".to_owned(),
        _ => format!("`tidemark resync cancel {} --reason TEXT --execute` ends it", open.id),
    };
    format!("resync {} is under way already; {way_on}", open.id)
}
