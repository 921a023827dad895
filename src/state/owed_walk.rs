//! What walks that were not completed leave to those after them. Whoever asks gives the table of
//! walks.

use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;

/// For SQL: a walk that makes a stream's rows anew was begun, and none has been completed since,
/// under whatever reason the one after it began. Rows that none of them came to are as another
/// mapping made them, or of another source, or are not there, and nothing else tells.
pub(super) fn is_owed(walks: &str, stream: &str) -> String {
    let (snapshot, remade) = (Reason::FirstSnapshot, Reason::MappingChanged);
    let (asked, completed) = (asked_for(), ResyncState::Completed);
    format!(
        "exists (select from {walks} as m where m.stream = {stream} and m.state <> \
         '{completed}' and (m.reason in ('{snapshot}', '{remade}') or m.by_content and m.reason \
         not in ({asked})) and not exists (select from {walks} as c where c.stream = m.stream and \
         c.id > m.id and c.state = '{completed}'))"
    )
}

/// For SQL: a person asked for a walk before that of the row `resync`, which was cut off, and none
/// has been completed since. Whoever asked doubts what the rows' hashes say; that makes no walk one
/// that has to be completed.
pub(super) fn is_doubted(walks: &str) -> String {
    let asked = asked_for();
    let (failed, completed) = (ResyncState::Failed, ResyncState::Completed);
    format!(
        "exists (select from {walks} as m where m.stream = resync.stream and m.id < resync.id and \
         m.state = '{failed}' and m.reason in ({asked}) and not exists (select from {walks} as c \
         where c.stream = m.stream and c.id > m.id and c.state = '{completed}'))"
    )
}

fn asked_for() -> String {
    let asked = Reason::ALL.into_iter().filter(|reason| reason.is_asked_for());
    let asked: Vec<String> = asked.map(|reason| format!("'{reason}'")).collect();
    asked.join(", ")
}
