//! The commands sent to the source, as raw BSON.

use mongodb::bson::RawDocumentBuf;

use crate::error::Fault;
use crate::model::bson::Builder;
use crate::model::position::ClusterTime;

/// The read concern of a find that reads everything as of one moment, which the server names in its
/// reply. The moment is causally after a time, unless that is zero. MongoDB knows it from 5.0 on.
pub(super) fn snapshot(after: ClusterTime) -> Builder {
    level("snapshot", after)
}

/// The read concern of a find that reads everything as it was at exactly this time.
pub(super) fn as_of(at: ClusterTime) -> Builder {
    Builder::default().text("level", "snapshot").timestamp("atClusterTime", at.packed())
}

/// The read concern of a find that reads only what a majority has confirmed, causally after a time,
/// unless that is zero.
pub(super) fn majority(after: ClusterTime) -> Builder {
    level("majority", after)
}

fn level(level: &str, after: ClusterTime) -> Builder {
    let concern = Builder::default().text("level", level);
    if after == ClusterTime::default() {
        concern
    } else {
        concern.timestamp("afterClusterTime", after.packed())
    }
}

pub(super) fn raw(command: Builder) -> Result<RawDocumentBuf, Fault> {
    RawDocumentBuf::from_bytes(command.finish())
        .map_err(|_| Fault::bug("a command was not built as BSON"))
}

pub(super) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
