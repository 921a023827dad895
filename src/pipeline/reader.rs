//! The reader: keeps a change stream open and hands its replies on, in order, each once.

use tokio::sync::mpsc;

use super::binding::still_the_same;
use super::context::GroupContext;
use crate::error::{Class, Fault};
use crate::model::event::Event;
use crate::model::position::{Position, ResumeToken};
use crate::model::step::Step;
use crate::retry::Backoff;
use crate::source::{ChangeStream, ChangeStreamOptions, Reply};
use crate::status::Answer;

/// A reply, and whether more of its last event's cluster time may follow.
#[derive(Debug)]
pub struct Came {
    pub reply: Reply,
    pub is_open: bool,
}

/// Reads until the receiver goes away or an error may not be tried again. That error is the last
/// thing sent.
pub async fn read(
    group: GroupContext,
    position: Position,
    change_stream: Option<ChangeStream>,
    replies: mpsc::Sender<Result<Came, Fault>>,
) {
    let mut reader = Reader {
        options: group.change_stream_options(),
        backoff: Backoff::new(group.settings.retry),
        group,
        asked: true,
        after: position.token,
        change_stream,
        refused_once: false,
        just_opened: false,
        is_open: false,
    };
    loop {
        let read = reader.next().await;
        let ended = read.is_err();
        if replies.send(read).await.is_err() || ended {
            return;
        }
    }
}

#[expect(clippy::struct_excessive_bools, reason = "four facts, each of its own")]
struct Reader {
    group: GroupContext,
    options: ChangeStreamOptions,
    backoff: Backoff,
    /// Everything up to here has been handed on.
    after: ResumeToken,
    change_stream: Option<ChangeStream>,
    /// The server refused the token once; a refusal at open can be transient, so it is asked a
    /// second time.
    refused_once: bool,
    /// The source has been asked whether it is the same one, since its change stream failed last.
    asked: bool,
    /// The next reply is the one that opening asked for.
    just_opened: bool,
    /// More of the last event's cluster time may follow.
    is_open: bool,
}

impl Reader {
    /// The next reply, over as many attempts and cursors as it takes.
    async fn next(&mut self) -> Result<Came, Fault> {
        loop {
            let fault = match self.attempt().await {
                Ok(came) => {
                    self.is_open = came.is_open;
                    self.took(&came.reply);
                    return Ok(came);
                }
                Err(fault) => fault,
            };
            let opening = self.change_stream.take().is_none();
            self.asked = false;
            let fault = match fault.class {
                Class::Record => match self.around().await {
                    Ok(came) => {
                        self.is_open = came.is_open;
                        self.took(&came.reply);
                        return Ok(came);
                    }
                    Err(fault) => fault,
                },
                Class::HistoryLost if !self.refused_once => {
                    self.refused_once = true;
                    // It may be of an event of a collection that nothing names any more.
                    self.options.all = !self.after.is_of_no_event();
                    tracing::warn!(
                        group = %self.group.name,
                        "position refused, asking once more: {fault}"
                    );
                    continue;
                }
                _ => fault,
            };
            let step = if opening { Step::Open } else { Step::Read };
            self.group.wait_or_give_up(step, &mut self.backoff, fault).await?;
        }
    }

    async fn attempt(&mut self) -> Result<Came, Fault> {
        let change_stream = match &mut self.change_stream {
            Some(change_stream) => change_stream,
            empty => {
                if !std::mem::replace(&mut self.asked, true) {
                    still_the_same(&self.group, &self.after).await?;
                }
                let opened = self.group.source.open(&self.options, Some(&self.after)).await?;
                self.just_opened = true;
                empty.insert(opened)
            }
        };
        let reply = change_stream.next().await?;
        // Opening asks for an empty reply, which shows nothing.
        let is_open = if reply.is_empty() && self.just_opened {
            self.is_open
        } else {
            self.group.source.is_open(&self.options, &reply).await?
        };
        Ok(Came { reply, is_open })
    }

    /// An event over 16 MB cannot be sent whole: it is read without its documents, which are looked
    /// up later.
    async fn around(&mut self) -> Result<Came, Fault> {
        let options =
            ChangeStreamOptions { keys_only: true, batch_size: 1, ..self.options.clone() };
        let mut change_stream = self.group.source.open(&options, Some(&self.after)).await?;
        loop {
            let reply = change_stream.next().await?;
            if !reply.is_empty() {
                tracing::info!(
                    group = %self.group.name,
                    "event over 16 MB fetched by its key"
                );
                let is_open = self.group.source.is_open(&self.options, &reply).await?;
                return Ok(Came { reply, is_open });
            }
        }
    }

    fn took(&mut self, reply: &Reply) {
        let moved =
            !reply.is_empty() || reply.token.as_ref().is_some_and(|token| *token != self.after);
        let answer = match (std::mem::take(&mut self.just_opened), moved) {
            (_, true) => Answer::Moved,
            (true, false) => Answer::Opened,
            (false, false) => Answer::Still,
        };
        self.group.status.polled(reply.operation_time, reply.is_empty(), answer);
        if answer != Answer::Opened {
            if self.backoff.is_failing() {
                self.group.status.recovered(&[Step::Open, Step::Read]);
            }
            self.backoff.reset();
        }
        // A server may answer an empty reply or two before it finds that the history after the
        // token is gone.
        if answer == Answer::Moved {
            self.refused_once = false;
        }
        let last = reply.len().checked_sub(1).and_then(|last| Event::parse(reply.item(last)).ok());
        if let Some(token) = &reply.token {
            self.after = token.clone();
        } else if let Some(token) = last.and_then(|last| last.token().ok()) {
            self.after = token;
        }
        if self.options.all && moved && self.is_freed(last) {
            self.options.all = false;
            self.change_stream = None;
        }
    }

    /// Whether the change stream can be opened again after what was handed on, also where no more
    /// is let through than what is followed.
    fn is_freed(&self, last: Option<Event<'_>>) -> bool {
        let of = last.and_then(|last| last.collection);
        self.after.is_of_no_event() || of.is_some_and(|of| self.options.collections.contains(of))
    }
}
