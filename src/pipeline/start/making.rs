//! Makes what was decided when a group begins so: one transaction.

use std::collections::HashMap;

use super::begins::{Begins, blind_from};
use super::decide::Decision;
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position};
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::pipeline::binding::{Here, SourceNow, remembered};
use crate::pipeline::context::{Context, GroupContext};
use crate::state::{Beginning, BoundTo, Changes, Lease, NewPosition, Stored, StreamRow, WalkRow};

/// Makes what was decided so.
pub(super) struct Making<'a> {
    pub group: &'a GroupContext,
    pub stored: &'a Stored,
    pub begins: &'a Begins,
    pub place: &'a SourceNow,
    pub rows: &'a HashMap<String, StreamRow>,
    pub position: &'a Position,
    /// The position takes the place of the stored one.
    pub is_new: bool,
    /// The source's time before any of its collections was looked at.
    pub now: ClusterTime,
}

impl Making<'_> {
    /// The revision made; `None` if nothing changes.
    pub async fn change(
        &self,
        lease: &Lease,
        decisions: &[(Option<Here>, Decision)],
        walks: &[WalkRow],
        leaving: &[&str],
    ) -> Result<Option<i64>, Fault> {
        let group = self.group;
        let (database, options) = (group.source.database_name(), group.fingerprint());
        let of_walk = decisions.iter().find_map(|(_, decision)| decision.why());
        let lost = self.begins.lost.as_ref().map(|(_, why)| why.as_str());
        let why = lost.or(of_walk).unwrap_or("begins");
        let position = self.is_new.then_some(NewPosition {
            position: self.position,
            database,
            options: &options,
            why,
        });
        let mut changes = Changes { position, left: leaving.to_vec(), ..Changes::default() };
        for (context, (here, decision)) in group.streams.iter().zip(decisions) {
            self.add(&mut changes, context, here.as_ref(), decision).await;
        }
        changes.taken_over = self.begins.own.iter().map(|(own, _)| own.stream.as_str()).collect();
        let ahead = self.begins.ahead(self.stored);
        changes.ahead = ahead.map(|until| (group.names(), until));
        if changes.is_empty() {
            return Ok(None);
        }
        for walk in &changes.walks {
            if let Some(before) = walks.iter().find(|before| before.stream == walk.stream)
                && let Some(context) = group.stream(walk.stream)
            {
                context.status.walk_ended(before.reason(), ResyncState::Failed);
            }
        }
        group.state.change(lease, &changes).await.map(Some)
    }

    async fn add<'c>(
        &'c self,
        changes: &mut Changes<'c>,
        context: &'c Context,
        here: Option<&'c Here>,
        decision: &'c Decision,
    ) {
        let stream = context.config.name.as_str();
        let row = self.rows.get(stream);
        match (decision, here) {
            (Decision::GoOn | Decision::Pause(_), _)
            | (Decision::Bind | Decision::Walk { .. }, None) => {}
            (Decision::Bind, Some(here)) => {
                changes.bound.push((stream, remembered(context, self.place, here, row)));
            }
            (Decision::Walk { reason, why, is_blind, by_content }, Some(here)) => {
                let estimated = self.group.source.estimate(&context.config.collection).await.ok();
                changes.walks.push(Beginning {
                    stream,
                    reason: *reason,
                    why,
                    start_time: if *reason == Reason::FirstSnapshot {
                        self.position.cluster_time.max(self.now)
                    } else {
                        // What was stamped before the collection was looked at may be of another
                        // one of its name, whose documents no event deletes; and what was stamped
                        // just then may be half of a transaction that deletes it in its other half.
                        self.position.cluster_time.max(self.now).next()
                    },
                    blind_from: match reason {
                        _ if *is_blind => blind_from(self.stored, row),
                        Reason::FirstSnapshot => None,
                        _ => row.and_then(StreamRow::missed_since),
                    },
                    documents_estimated: estimated,
                    by_content: *by_content,
                    bound: BoundTo {
                        cluster: self.place.cluster.as_deref(),
                        collection: &context.config.collection,
                        collection_uuid: here.found.uuid(),
                        table: &context.table,
                        living: &context.statements.living,
                        mapping: context.mapping.digest(),
                    },
                });
            }
            (Decision::Park(fault), _) => {
                // The row of one that another group follows is that group's to write.
                let is_ours =
                    row.is_some_and(|row| row.group.as_deref() == Some(&*self.group.name));
                let known = row.and_then(|row| row.parked_code.as_deref());
                let again = row.is_some_and(|row| {
                    known == Some(fault.code.name())
                        && row.parked_reason.as_deref() == Some(&fault.message)
                        && row.pause().is_none()
                });
                if is_ours && !again {
                    changes.parked.push((stream, fault));
                }
            }
        }
    }
}
