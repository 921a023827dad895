//! What was lost where a collection is walked, by the reason of the walk.

use crate::error::{Code, Severity};
use crate::model::reason::Reason;

/// A collection that is made anew and followed on at once, as by `$out`, is no reason to wake
/// anybody.
pub(super) fn severity(reason: Reason, of_rule: Severity) -> Severity {
    if reason == Reason::CollectionRecreated { Severity::Warning } else { of_rule }
}

/// What a walk of this reason is the repair of, if anything.
pub(super) const fn lost_by(reason: Reason) -> Option<Code> {
    match reason {
        Reason::FirstSnapshot
        | Reason::Divergence
        | Reason::Parked
        | Reason::Paused
        | Reason::Rejoined
        | Reason::MappingChanged => None,
        Reason::CollectionRecreated => Some(Code::SourceDropped),
        Reason::SourceAdopted => Some(Code::SourceForeign),
        _ => Some(Code::HistoryLost),
    }
}

/// Whether a walk of this reason repairs what the position missed: that is its whole group's.
pub(super) const fn is_of_position(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::HistoryLost
            | Reason::PositionMissing
            | Reason::PositionEmpty
            | Reason::PositionUnreadable
            | Reason::PositionForeign
            | Reason::OptionsChanged
    )
}

pub(super) const fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::HistoryLost => "the source no longer has the history after the stored position",
        Reason::PositionMissing => "the table holds rows, but there is no stored position",
        Reason::PositionEmpty => "the stored position is empty",
        Reason::PositionUnreadable => "the stored position cannot be read",
        Reason::PositionForeign => {
            "source.database (or `database` of the [[group]]) is another than the table is of"
        }
        Reason::OptionsChanged => "the stored position was made under other options",
        Reason::Requested => "a full resync was asked for",
        Reason::TableReplaced => {
            "the table lost rows that tidemark wrote: it was emptied, replaced or restored"
        }
        Reason::SourceAdopted => "the source is another one, and a person said that it is meant",
        Reason::CollectionRecreated => "the collection was dropped or renamed and is there again",
        Reason::Parked => "the stream was parked",
        Reason::Paused => "the stream was paused",
        Reason::Rejoined => "the stream was out of the configuration for a while",
        Reason::MappingChanged => "the configuration makes other rows of the documents",
        Reason::FirstSnapshot | Reason::Divergence => "a full walk is under way",
    }
}
