//! Replies in, runs of events out, within limits of number and bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::bson::Malformed;
use crate::model::event::Event;
use crate::model::position::{ClusterTime, Position, ResumeToken};
use crate::source::Reply;

/// How large a batch may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    pub events: usize,
    pub bytes: usize,
}

/// One event in the reply that brought it.
#[derive(Debug, Clone)]
pub struct EventRef {
    reply: Arc<Reply>,
    index: usize,
}

impl EventRef {
    pub fn bytes(&self) -> &[u8] {
        self.reply.item(self.index)
    }
}

/// Events taken for one batch, and the position after the last of them.
#[derive(Debug)]
pub struct Taken {
    pub events: Vec<EventRef>,
    /// Where the server had read to when the last of these events came.
    pub position: Position,
}

impl Taken {
    /// Keeps the first `keep` events; the position moves back with them.
    ///
    /// # Errors
    /// The last event kept has no readable token.
    pub fn truncate(&mut self, keep: usize) -> Result<(), Malformed> {
        if keep < self.events.len() {
            self.events.truncate(keep);
            self.position = position_after(&self.events, &self.position)?;
        }
        Ok(())
    }
}

/// Events read and not yet taken.
#[derive(Debug)]
pub struct Gather {
    queue: VecDeque<EventRef>,
    bytes: usize,
    /// The position after everything queued.
    tail: Position,
}

impl Gather {
    /// Begins after a position: what is read next follows it.
    pub const fn after(position: Position) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, tail: position }
    }

    pub fn push(&mut self, reply: Reply) -> Result<(), Malformed> {
        let token = match &reply.token {
            Some(token) => Some(token.clone()),
            None => last_token(&reply)?,
        };
        if let Some(token) = token {
            let fallback = reply.operation_time.unwrap_or(self.tail.cluster_time);
            self.tail = Position::of(token, fallback);
        }
        let reply = Arc::new(reply);
        for index in 0..reply.len() {
            self.bytes += reply.item(index).len();
            self.queue.push_back(EventRef { reply: Arc::clone(&reply), index });
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn is_full(&self, limits: BatchLimits) -> bool {
        self.queue.len() >= limits.events || self.bytes >= limits.bytes
    }

    /// Takes what fits within the limits, at least one event if there is any. With nothing queued:
    /// the idle position.
    ///
    /// # Errors
    /// The last event taken has no readable token, so no position could follow it.
    pub fn take(&mut self, limits: BatchLimits) -> Result<Taken, Malformed> {
        let mut events = Vec::with_capacity(self.queue.len().min(limits.events));
        let mut bytes = 0;
        while let Some(event) = self.queue.front() {
            let size = event.bytes().len();
            let fits = events.len() < limits.events && bytes + size <= limits.bytes;
            if !fits && !events.is_empty() {
                break;
            }
            bytes += size;
            events.extend(self.queue.pop_front());
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        let position = if self.queue.is_empty() {
            self.tail.clone()
        } else {
            position_after(&events, &self.tail)?
        };
        Ok(Taken { events, position })
    }

    /// Gives back the end of what was taken, keeping `keep` events; the position moves back with
    /// it.
    ///
    /// # Errors
    /// As [`Gather::take`].
    pub fn give_back(&mut self, taken: &mut Taken, keep: usize) -> Result<(), Malformed> {
        for event in taken.events.iter().skip(keep).rev() {
            self.bytes += event.bytes().len();
            self.queue.push_front(event.clone());
        }
        taken.truncate(keep)
    }
}

/// The position after the last event; `fallback` serves a run without events and a token that hides
/// its time.
fn position_after(events: &[EventRef], fallback: &Position) -> Result<Position, Malformed> {
    match events.last() {
        Some(last) => {
            let event = Event::parse(last.bytes())?;
            Ok(Position::of(event.token()?, event.cluster_time))
        }
        None => Ok(fallback.clone()),
    }
}

fn last_token(reply: &Reply) -> Result<Option<ResumeToken>, Malformed> {
    match reply.len().checked_sub(1) {
        Some(last) => Event::parse(reply.item(last))?.token().map(Some),
        None => Ok(None),
    }
}

/// Milliseconds since 1970 at which an event was written, by the server's wall clock where the
/// event tells it.
pub(super) fn written_at_millis(wall: Option<i64>, time: ClusterTime) -> i64 {
    wall.unwrap_or_else(|| i64::from(time.seconds()) * 1000)
}
