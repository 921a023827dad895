//! What is told of a commit once it has been made.

use std::time::Duration;

use super::Applier;
use crate::apply::{Applied, Commit, Drift};
use crate::pipeline::context::Context;
use crate::pipeline::encoder::OfStream;
use crate::pipeline::preparer::Batch;
use crate::pipeline::walks::Part;
use crate::status::{Committed, FieldsSeen};

impl Applier<'_> {
    pub(super) fn tell(&self, batch: &Batch, commit: &Commit, applied: &[Applied], took: Duration) {
        if let Some(position) = &commit.position {
            self.group.status.positioned(position, commit.events(), took);
        }
        // A table that was parked with the commit has no work in it any more.
        let parked = |stream: usize| commit.parked.iter().any(|(parked, _)| *parked == stream);
        let told = batch.told.iter().filter(|told| !parked(told.stream));
        for (told, applied) in told.zip(applied) {
            if let Some(context) = self.group.streams.get(told.stream) {
                tell_one(context, told, applied, took);
            }
        }
        for told in batch.told.iter().filter(|told| parked(told.stream)) {
            if let Some(context) = self.group.streams.get(told.stream) {
                context.status.left_out(told.received.iter().sum());
            }
        }
    }

    pub(super) fn tell_part(&self, part: &Part, applied: &Applied) {
        let Some(context) = self.group.streams.get(part.stream) else { return };
        tell_drift(context, &part.part.drift);
        context.status.committed(&Committed {
            of_walk: true,
            rows_changed: applied.rows_changed + applied.rows_deleted,
            rows_unchanged: applied.rows_unchanged,
            dead_letters: applied.set_aside.by_code.clone(),
            ..Committed::default()
        });
    }
}

pub(super) fn tell_one(context: &Context, told: &OfStream, applied: &Applied, took: Duration) {
    tell_drift(context, &told.drift);
    context.status.committed(&Committed {
        of_walk: false,
        received: told.received,
        not_applied: applied.dead_by_operation,
        gone: told.gone,
        filtered: told.filtered,
        rows_changed: applied.rows_changed + applied.rows_deleted,
        rows_unchanged: applied.rows_unchanged,
        dead_letters: applied.set_aside.by_code.clone(),
        position: None,
        last_event: told.last_event,
        written_at_millis: &told.written_at_millis,
        took,
    });
}

pub(super) fn tell_drift(context: &Context, drift: &Drift) {
    if drift.is_empty() {
        return;
    }
    context.status.drifted(&FieldsSeen {
        documents: drift.documents,
        differ: drift
            .fields
            .iter()
            .map(|((column, kind), number)| (*column, *kind, *number))
            .collect(),
        presence: drift.presence.iter().map(|presence| (presence.seen, presence.absent)).collect(),
        unmapped: &drift.unmapped,
        crowded: drift.crowded,
        replaced: drift.replaced,
    });
}
