//! What is printed of a resync of a part.

use std::fmt::Write;

use crate::model::format::thousands;
use crate::model::shown::shown;
use crate::ops::resync_part::PartPreview;
use crate::state::{PartListed, known_as};

/// What reading some documents again would come to.
pub fn part(preview: &PartPreview) -> String {
    let number = thousands;
    let mut out = format!(
        "resync of a part of stream {}: {} → {}\n  reads        {} documents that are named; the \
         source has {} of them\n  writes       {} rows: {} the table lacks, {} it has otherwise\n  \
         deletes      {} rows the source does not have; never more than {}\n",
        shown(&preview.stream),
        shown(&preview.source),
        shown(&preview.table),
        number(preview.named),
        number(preview.documents),
        number(preview.rows_to_insert + preview.rows_to_change),
        number(preview.rows_to_insert),
        number(preview.rows_to_change),
        number(preview.rows_to_delete),
        number(preview.deletes_without_asking),
    );
    if preview.unknown > 0 {
        let _ = writeln!(out, "  unknown      {} are at neither end", number(preview.unknown));
    }
    if let Some(open) = &preview.open {
        let _ = writeln!(
            out,
            "  under way    resync {} is {}: this goes on beside it",
            open.id,
            shown(&open.state)
        );
    }
    out
}

/// Requests to resync a part.
pub fn parts(listed: &[PartListed]) -> String {
    let mut out = format!(
        "{:>7} {:<16} {:<10} {:<20} {:>9} {:>9} {:>9} {:>9} {:>9}  ASKED BY\n",
        "COMMAND",
        "STREAM",
        "STATE",
        "ASKED",
        "DOCUMENTS",
        "READ",
        "WRITTEN",
        "DELETED",
        "SET ASIDE"
    );
    for one in listed {
        let state =
            one.outcome.as_deref().unwrap_or(if one.done > 0 { "running" } else { "asked" });
        let by = known_as(&one.actor, one.db_user.as_deref(), one.db_address.as_deref());
        let _ = writeln!(
            out,
            "{:>7} {:<16} {:<10} {:<20} {:>9} {:>9} {:>9} {:>9} {:>9}  {}: {}",
            one.command,
            shown(&one.stream),
            shown(state),
            one.at.format("%Y-%m-%dT%H:%M:%SZ"),
            one.documents,
            one.done,
            one.rows_written,
            one.rows_deleted,
            one.set_aside,
            shown(&by),
            shown(&one.reason),
        );
    }
    out
}
