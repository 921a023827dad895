//! What is asked for by a request, and how one ends.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::{Decode, Postgres, Type};

use crate::model::vocabulary::vocabulary;

vocabulary! {
    /// What is asked for, as kept in `command.verb`.
    pub enum Verb {
        Resync = "resync",
        ResyncCancel = "resync_cancel",
        ResyncApprove = "resync_approve",
        CheckpointRewind = "checkpoint_rewind",
        DeadLetterRetry = "dead_letter_retry",
        DeadLetterDiscard = "dead_letter_discard",
        DeadLetterAccept = "dead_letter_accept",
        /// Documents that are named are read and written again.
        ResyncPart = "resync_part",
        /// It lets a daemon have a stream of another service or environment.
        SourceAdopt = "source_adopt",
        /// The stream's group goes on without it for a while.
        Pause = "pause",
        Resume = "resume",
        /// Of no stream: the process that watches for incidents carries it out.
        Purge = "purge",
        /// Of no stream: every process of the service takes its configuration anew.
        Reload = "reload",
        /// Of no stream: every process of the service filters its log otherwise for a while.
        LogLevel = "log_level",
        /// Done as it is asked, and recorded.
        IncidentAck = "incident ack",
        /// The record is what holds, until the time that it names.
        IncidentMute = "incident mute",
        IncidentUnmute = "incident unmute",
    }
}

vocabulary! {
    /// How a request ended, as kept in `command.outcome`.
    pub enum Outcome {
        Done = "done",
        /// It cannot be meant, as things are: there is nothing to do, or it would do harm.
        Refused = "refused",
        /// It was tried, and could not be done, or not all of it.
        Failed = "failed",
    }
}

impl Type<Postgres> for Outcome {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(found: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(found)
    }
}

impl<'r> Decode<'r, Postgres> for Outcome {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let word = <&str as Decode<Postgres>>::decode(value)?;
        Self::parse(word).ok_or_else(|| "an outcome of another release".into())
    }
}
