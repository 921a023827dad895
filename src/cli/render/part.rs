//! What is printed of a resync of a part.

use std::fmt::Write;

use crate::model::format::{many, thousands};
use crate::model::shown::shown;
use crate::ops::resync_part::{PartBy, PartPreview};
use crate::state::{PartListed, known_as};

/// What reading some documents again would come to.
pub fn part(preview: &PartPreview) -> String {
    let number = thousands;
    let mut out = format!(
        "resync of a part of stream {}: {} → {}\n  reads        {} {}; the source has {} of \
         them\n  writes       {}: {} the table lacks, {} it has otherwise\n  deletes      {} the \
         source does not have; never more than {}\n",
        shown(&preview.stream),
        shown(&preview.source),
        shown(&preview.table),
        many(preview.named, "document"),
        meant(preview.by),
        number(preview.documents),
        many(preview.rows_to_insert + preview.rows_to_change, "row"),
        number(preview.rows_to_insert),
        number(preview.rows_to_change),
        many(preview.rows_to_delete, "row"),
        number(preview.deletes_without_asking),
    );
    if preview.versions_to_end > 0 {
        let ended = many(preview.versions_to_end, "version");
        let _ = writeln!(out, "  ends         {ended} of now, whose documents neither end has");
    }
    if preview.unknown > 0 {
        let unknown = number(preview.unknown);
        let _ = if preview.is_filtered {
            let why = "have no row, and are not there or left out by the stream's filter";
            writeln!(out, "  unknown      {unknown} {why}")
        } else {
            writeln!(out, "  unknown      {unknown} are at neither end")
        };
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

const fn meant(by: PartBy) -> &'static str {
    match by {
        PartBy::Ids => "named",
        PartBy::Filter => "that --filter finds",
        PartBy::Divergence => "found to differ",
    }
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
