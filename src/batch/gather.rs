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

/// Which part of what the source committed at one time a batch ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// It ends between two cluster times.
    Whole,
    /// It is part of one that is too large: more follows.
    More,
    /// The last of the pieces.
    Last,
}

/// Events taken for one batch, and the position after the last of them.
#[derive(Debug)]
pub struct Taken {
    pub events: Arc<[EventRef]>,
    /// Where the server had read to when the last of these events came.
    pub position: Position,
    pub piece: Piece,
}

/// Events read and not yet taken.
#[derive(Debug)]
pub struct Gather {
    queue: VecDeque<EventRef>,
    bytes: usize,
    /// The position after everything queued.
    tail: Position,
    /// The position after everything taken.
    taken: Position,
    /// More of the cluster time that is queued last, or was taken last, may be still to come.
    is_open: bool,
    /// Pieces of this time were taken, and not its last.
    amid: Option<ClusterTime>,
}

impl Gather {
    /// Begins after a position: what is read next follows it.
    pub fn after(position: Position) -> Self {
        let (tail, taken) = (position.clone(), position);
        Self { queue: VecDeque::new(), bytes: 0, tail, taken, is_open: false, amid: None }
    }

    /// Takes a reply in. `is_open` says that more of its last event's cluster time may follow.
    pub fn push(&mut self, reply: Reply, is_open: bool) -> Result<(), Malformed> {
        let token = match &reply.token {
            Some(token) => Some(token.clone()),
            None => last_token(&reply)?,
        };
        // The same token is of the same time, which a first one does not tell.
        if let Some(token) = token.filter(|token| *token != self.tail.token) {
            let fallback = reply.operation_time.unwrap_or(self.tail.cluster_time);
            self.tail = Position::of(token, fallback);
        }
        self.is_open = is_open;
        let reply = Arc::new(reply);
        for index in 0..reply.len() {
            self.bytes += reply.item(index).len();
            self.queue.push_back(EventRef { reply: Arc::clone(&reply), index });
        }
        Ok(())
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn is_full(&self, limits: BatchLimits) -> bool {
        self.queue.len() >= limits.events || self.bytes >= limits.bytes
    }

    /// Takes what fits within the limits up to the end of a cluster time; of one that does not fit,
    /// a piece. `None` if what there is of a time is not known to be all of it and would fit. With
    /// nothing queued: the idle position.
    ///
    /// # Errors
    /// The last event taken has no readable token, so no position could follow it.
    pub fn take(&mut self, limits: BatchLimits) -> Result<Option<Taken>, Malformed> {
        let fitting = self.fitting(limits);
        let (number, piece) = match self.amid {
            Some(time) => match self.rest_of(time, fitting) {
                Some(rest) => rest,
                None => return Ok(None),
            },
            None => match self.cut(fitting) {
                Some(number) => (number, Piece::Whole),
                None if fitting < self.queue.len() || self.is_full(limits) => {
                    self.amid = self.time(0);
                    (fitting, Piece::More)
                }
                None => return Ok(None),
            },
        };
        if piece != Piece::More {
            self.amid = None;
        }
        self.drain(number, piece).map(Some)
    }

    /// Takes so many events as fit, and no heed of cluster times.
    ///
    /// # Errors
    /// As [`Gather::take`].
    pub fn take_any(&mut self, limits: BatchLimits) -> Result<Taken, Malformed> {
        self.drain(self.fitting(limits), Piece::Whole)
    }

    fn drain(&mut self, number: usize, piece: Piece) -> Result<Taken, Malformed> {
        let events: Arc<[EventRef]> = self.queue.drain(..number).collect();
        let size: usize = events.iter().map(|event| event.bytes().len()).sum();
        self.bytes = self.bytes.saturating_sub(size);
        let position = if self.queue.is_empty() {
            self.tail.clone()
        } else {
            position_after(&events, &self.taken)?
        };
        self.taken = position.clone();
        Ok(Taken { events, position, piece })
    }

    /// Gives back what was taken last, to be taken in smaller parts.
    pub fn give_back(&mut self, taken: &Taken, amid: Option<ClusterTime>) {
        for event in taken.events.iter().rev() {
            self.bytes += event.bytes().len();
            self.queue.push_front(event.clone());
        }
        self.amid = amid;
    }

    /// The time of which pieces were taken, and not the last.
    pub const fn amid(&self) -> Option<ClusterTime> {
        self.amid
    }

    /// How many events from the front fit within the limits; at least one if there is any.
    fn fitting(&self, limits: BatchLimits) -> usize {
        let mut bytes = 0;
        let fits = self.queue.iter().take(limits.events).take_while(|event| {
            bytes += event.bytes().len();
            bytes <= limits.bytes
        });
        fits.count().max(1).min(self.queue.len())
    }

    /// What is taken of a time of which pieces were taken before; `None` if nothing of it is there
    /// yet, and it is not known whether more comes.
    fn rest_of(&self, time: ClusterTime, fitting: usize) -> Option<(usize, Piece)> {
        let of_it = |place: usize| self.time(place) == Some(time);
        let number = (0..fitting).take_while(|place| of_it(*place)).count();
        let ended = if number < self.queue.len() { !of_it(number) } else { !self.is_open };
        match (ended, number) {
            (true, _) => Some((number, Piece::Last)),
            (false, 0) => None,
            (false, _) => Some((number, Piece::More)),
        }
    }

    /// The last end of a cluster time within the first events; `None` if there is none.
    fn cut(&self, fitting: usize) -> Option<usize> {
        if fitting == self.queue.len() && !self.is_open {
            return Some(fitting);
        }
        let last = self.time(fitting.checked_sub(1)?);
        if fitting < self.queue.len() && self.time(fitting) != last {
            return Some(fitting);
        }
        let run = (0..fitting).rev().take_while(|place| self.time(*place) == last).count();
        (run < fitting).then_some(fitting - run)
    }

    /// The cluster time of an event that is queued; `None` of one that cannot be read.
    fn time(&self, place: usize) -> Option<ClusterTime> {
        Event::parse(self.queue.get(place)?.bytes()).ok().map(|event| event.cluster_time)
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
