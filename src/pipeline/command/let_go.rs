//! Requests that have a stream's table written, or stop that: not before the stream and its table
//! are this group's, nor from a source that these are not of.

use super::{Asked, foreign_source};
use crate::error::Fault;
use crate::pipeline::context::Context;
use crate::pipeline::start::{elsewhere, held_table, is_of_this_source};
use crate::postgres::close;
use crate::state::Verb;

impl Asked<'_> {
    /// Why a request cannot be carried out yet: there would be two writers of one table, or rows of
    /// two sources.
    pub(super) async fn waits(&self, context: &Context) -> Result<Option<String>, Fault> {
        let verb = Verb::parse(&self.command.verb);
        if !needs_the_table(verb) {
            return Ok(None);
        }
        if elsewhere(context).await?.is_some() {
            return Ok(Some("another group has not let the stream go yet".to_owned()));
        }
        let mut connection = context.target.connect().await?;
        let held = held_table(context, &mut connection).await;
        close(connection).await;
        if let Some(fault) = held? {
            return Ok(Some(fault.message));
        }
        if matches!(verb, Some(Verb::SourceAdopt | Verb::Pause)) {
            return Ok(None);
        }
        let is_of_it = is_of_this_source(context).await?;
        Ok(is_of_it.err().map(|fault| foreign_source(&fault.message)))
    }
}

const fn needs_the_table(verb: Option<Verb>) -> bool {
    match verb {
        Some(
            Verb::Resync
            | Verb::ResyncPart
            | Verb::SourceAdopt
            | Verb::DeadLetterRetry
            | Verb::Pause,
        ) => true,
        Some(
            Verb::ResyncCancel
            | Verb::ResyncApprove
            | Verb::CheckpointRewind
            | Verb::DeadLetterAccept
            | Verb::DeadLetterDiscard
            | Verb::Resume
            | Verb::Purge
            | Verb::Reload
            | Verb::LogLevel
            | Verb::IncidentAck
            | Verb::IncidentMute
            | Verb::IncidentUnmute,
        )
        | None => false,
    }
}
