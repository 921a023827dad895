//! Steps over a position that processes died at: event by event, until the event they died of is
//! set aside or lies behind.

use super::{Applier, Stopped};
use crate::apply::{Commit, Work};
use crate::batch::Piece;
use crate::error::{Class, Fault};
use crate::model::event::{Event, Operation};
use crate::model::position::Position;
use crate::pipeline::care::{Care, letter};
use crate::pipeline::encoder::OfStream;
use crate::pipeline::preparer::{Batch, prepare_one};
use crate::source::{ChangeStream, ChangeStreamOptions, Reply};
use crate::state::Mark;

/// Events as they come from one change stream, in steps of one size.
struct Steps {
    change_stream: ChangeStream,
    size: usize,
    /// The server has answered the opening, which brings no events.
    opened: bool,
}

impl Applier<'_> {
    /// Goes on from a position with care, until there is nothing more to read or what processes
    /// died of is behind; `position` moves along. What the source answers beside events is left to
    /// the reader, who reads it again.
    ///
    /// No process has read what is yet to be written: care ends at what is the source's present
    /// now, however much is written meanwhile. Walks and parked streams wait for it.
    pub(super) async fn step_over(
        &mut self,
        mut care: Care,
        position: &mut Position,
    ) -> Result<(), Stopped> {
        if let Some(doomed) = care.doomed() {
            self.leave_out(doomed, position).await?;
        }
        let present = self.group.source.now().await?;
        let mut steps: Option<Steps> = None;
        while position.cluster_time <= present && !care.is_over() && !self.is_told_to_end() {
            let Ok(reply) = self.read_step(&mut steps, care.step(), position).await else { break };
            let Some(first) = token_of_first(&reply) else { break };
            let events = reply.len();
            let place = position.token.bytes();
            let in_hand = care.take(place, &first, events, self.signals.any()).await?;
            if self.is_told_to_end() {
                break;
            }
            if in_hand.is_doomed {
                self.leave_out(Mark::of(&first), position).await?;
                continue;
            }
            let mut batch = prepare_one(self.group, position.clone(), reply).await?;
            // A batch may have turned out too large: its rest is read again.
            if batch.events != events {
                steps = None;
            }
            let after = batch.commit.position.clone();
            // A step may end amid what the source committed at one time.
            batch.commit.amid = after.as_ref().map(|after| after.cluster_time.next());
            self.batch(batch).await?;
            if let Some(after) = after {
                *position = after;
            }
        }
        Ok(())
    }

    fn is_told_to_end(&self) -> bool {
        let signals = self.signals;
        signals.lost.is_cancelled()
            || signals.drain.is_cancelled()
            || signals.commanded.is_cancelled()
    }

    /// The next events after a position; an empty reply if there are none by now.
    async fn read_step(
        &self,
        steps: &mut Option<Steps>,
        size: usize,
        after: &Position,
    ) -> Result<Reply, Fault> {
        if steps.as_ref().is_none_or(|steps| steps.size != size) {
            let change_stream = self.open(size, false, after).await?;
            *steps = Some(Steps { change_stream, size, opened: false });
        }
        let Some(steps) = steps else { return Err(Fault::bug("no feed to step along")) };
        loop {
            let reply = match steps.change_stream.next().await {
                // Over 16 MB: it is read by its key, and its document looked up.
                Err(fault) if fault.class == Class::Record => return self.read_key(after).await,
                reply => reply?,
            };
            let opening = !std::mem::replace(&mut steps.opened, true);
            if !reply.is_empty() || (!opening && is_up_to_date(&reply)) {
                return Ok(reply);
            }
        }
    }

    async fn open(
        &self,
        size: usize,
        keys_only: bool,
        after: &Position,
    ) -> Result<ChangeStream, Fault> {
        let options = ChangeStreamOptions {
            batch_size: size,
            keys_only,
            ..self.group.change_stream_options()
        };
        let opened = self.group.source.open(&options, Some(&after.token)).await;
        match opened {
            // It may be of an event of a collection that nothing names any more.
            Err(fault) if fault.class == Class::HistoryLost && !after.token.is_of_no_event() => {
                let options = ChangeStreamOptions { all: true, ..options };
                self.group.source.open(&options, Some(&after.token)).await
            }
            opened => opened,
        }
    }

    /// The next event without its document.
    async fn read_key(&self, after: &Position) -> Result<Reply, Fault> {
        let mut change_stream = self.open(1, true, after).await?;
        let mut opening = true;
        loop {
            let reply = change_stream.next().await?;
            if !reply.is_empty() || (!opening && is_up_to_date(&reply)) {
                return Ok(reply);
            }
            opening = false;
        }
    }

    /// Sets the event after a position aside by its key, if it is the one; its document is not
    /// read.
    async fn leave_out(&mut self, doomed: Mark, position: &mut Position) -> Result<(), Fault> {
        let Ok(reply) = self.read_key(position).await else { return Ok(()) };
        if token_of_first(&reply).map(|token| Mark::of(&token)) != Some(doomed) {
            return Ok(());
        }
        let Ok(event) = Event::parse(reply.item(0)) else { return Ok(()) };
        let (Ok(token), true) = (event.token(), event.operation.changes_a_row()) else {
            return Ok(());
        };
        let id = event.id.and_then(|id| {
            let mut text = Vec::new();
            crate::model::value::encode_id(id, &mut text).ok()?;
            String::from_utf8(text).ok()
        });
        let after = Position::of(token, event.cluster_time);
        tracing::error!(
            group = self.lease.group(),
            operation = event.operation.name(),
            "processes died of one event: it is set aside unread"
        );
        let received = Operation::ROWS.map(|operation| u64::from(operation == event.operation));
        let last_event = Some(event.cluster_time);
        let (mut works, mut told) = (Vec::new(), Vec::new());
        for &stream in self.group.routes.of(event.collection) {
            let Some(context) = self.group.streams.get(stream) else { continue };
            let name = event.operation.name();
            let key = context.mapping.evidence_of_event(reply.item(0));
            let dead = vec![letter(id.clone(), name, key, last_event)];
            works.push(Work { stream, dead, events: 1, ..Work::default() });
            told.push(OfStream { stream, received, last_event, ..OfStream::default() });
        }
        let amid = Some(after.cluster_time.next());
        let commit = Commit { works, position: Some(after.clone()), amid, ..Commit::default() };
        self.batch(Batch {
            commit,
            piece: Piece::Whole,
            follows: self.taken.clone(),
            told,
            stops: Vec::new(),
            left_out: Vec::new(),
            is_of_ours: true,
            events: 1,
            last_event,
            halt: None,
        })
        .await?;
        *position = after;
        Ok(())
    }
}

fn token_of_first(reply: &Reply) -> Option<Vec<u8>> {
    let event = (!reply.is_empty()).then(|| Event::parse(reply.item(0)))?.ok()?;
    event.token().ok().map(|token| token.bytes().to_vec())
}

/// Whether a server that answers nothing has read up to its present: it may still be on its way
/// through its log.
fn is_up_to_date(reply: &Reply) -> bool {
    match (&reply.token, reply.operation_time) {
        (Some(token), Some(now)) => {
            Position::of(token.clone(), now).cluster_time.seconds() + 1 >= now.seconds()
        }
        _ => true,
    }
}
