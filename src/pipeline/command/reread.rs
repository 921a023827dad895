//! Requests for documents to be read again: whether they may be, and a turn at them.

use uuid::Uuid;

use super::{Answered, Asked, foreign_source};
use crate::error::Fault;
use crate::pipeline::binding::{BindingVerdict, foreign, judge, place};
use crate::pipeline::context::Context;
use crate::pipeline::resync_part::{Turn, turn};
use crate::state::{Stored, StreamRow};

impl Asked<'_> {
    /// Why documents cannot be read again for a stream's rows, or the collection that these are of:
    /// the source must be the one the table is of.
    pub(super) async fn collection(
        &self,
        context: &Context,
        stored: &Stored,
    ) -> Result<Result<Option<Uuid>, String>, Fault> {
        let (group, command) = (self.group, self.command);
        let row = group.state.stream_row(&command.stream).await?;
        if let Some(pause) = row.as_ref().and_then(StreamRow::pause_in_force) {
            return Ok(Err(pause.in_the_way()));
        }
        let place = place(group, stored).await?;
        if let Some(why) = foreign(row.iter(), group, &place) {
            return Ok(Err(foreign_source(&why)));
        }
        let here = place.of(context, row.as_ref()).await?;
        let binding = row.as_ref().and_then(StreamRow::binding);
        Ok(match judge(binding.as_ref(), &here, &context.table, false, false) {
            BindingVerdict::Foreign(why) => Err(foreign_source(&why)),
            BindingVerdict::Dropped
            | BindingVerdict::Unfollowable(_)
            | BindingVerdict::Recreated(_) => {
                let why = format!("{} is not the collection the table is of", context.namespace);
                Err(format!("{why}: a resync repairs it once it is there"))
            }
            BindingVerdict::Same
            | BindingVerdict::Known
            | BindingVerdict::TableFresh
            | BindingVerdict::TableAnother
            | BindingVerdict::TableReplaced(_) => Ok(here.found.uuid()),
        })
    }

    /// Takes a turn at the documents that a request names; `None` if it needs another one.
    pub(super) async fn resync_part(&self, context: &Context) -> Result<Option<Answered>, Fault> {
        let (group, command, stored) = (self.group, self.command, self.stored().await?);
        let row = group.state.stream_row(&command.stream).await?;
        if let Some(pause) = row.as_ref().and_then(StreamRow::pause) {
            return self.refuse(pause.in_the_way()).await.map(Some);
        }
        if row.is_some_and(|row| row.parked_code.is_some()) {
            let why = "the stream is parked: once the cause is gone its whole table is repaired";
            return self.refuse(why).await.map(Some);
        }
        let collection = match self.collection(context, &stored).await? {
            Ok(collection) => collection,
            Err(why) => return self.refuse(why).await.map(Some),
        };
        match turn(group, context, self.lease, &stored, command, collection).await? {
            Turn::Ended(act) => self.act(act).await.map(Some),
            Turn::More(told, pause) => {
                group.state.go_on_later(command.id, pause, &told).await?;
                Ok(None)
            }
        }
    }
}
