//! The way of a request: recorded, taken by the process that leads the stream, and carried out on
//! the stream's rows in one fenced transaction with the mark that it has ended.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection};

use super::{Changes, Command, Fence, Lease, Outcome, Pause, StateTables, Verb, command, lease};
use crate::error::Fault;
use crate::model::position::{ClusterTime, Position};
use crate::postgres::with_deadline;

/// What is done about a request.
#[derive(Debug)]
pub enum Act<'a> {
    /// Begin a resync; from a new position, if the stored one cannot be used.
    Begin(Box<Changes<'a>>),
    /// End a resync where it is.
    Cancel { id: i64 },
    /// Let a held resync go on.
    Approve { id: i64 },
    /// The group goes on from another position; the present one is archived. What these streams
    /// hold is of later times until the position has passed the present one.
    Rewind { to: &'a Position, streams: &'a [&'a str], present: ClusterTime },
    /// Give dead letters up.
    Discard { ids: &'a [i64] },
    /// Let so many dead letters pass beyond what an accident brings.
    Accept { number: i64 },
    /// Go on without the stream for a while; its open walk ends.
    Pause(&'a Pause),
    /// End the stream's pause.
    Resume,
    /// Nothing more: it is done already, with this result.
    Done(String),
    /// Nothing, for this reason.
    Refuse(String),
    /// Nothing more: it cannot be done, for this reason.
    Fail(String),
}

impl StateTables {
    /// Records a request. Returns it as recorded.
    ///
    /// # Errors
    /// The stream is another service's or environment's.
    pub async fn request(
        &self,
        verb: Verb,
        stream: &str,
        arguments: &serde_json::Value,
        actor: &str,
        reason: &str,
    ) -> Result<Command, Fault> {
        let mut connection = with_deadline(self.deadline, self.pool.acquire()).await?;
        if verb != Verb::SourceAdopt {
            self.refuse_strangers(&mut connection, &[stream]).await?;
        }
        let recorded =
            self.record_command(&mut connection, verb, stream, arguments, actor, reason).await?;
        connection.give_back();
        Ok(recorded)
    }

    /// Takes the oldest request of the group's streams whose turn it is, and counts the try. Should
    /// the process die of it, the request is next tried after `pause`.
    pub async fn take_command(
        &self,
        lease: &Lease,
        streams: &[&str],
        pause: Duration,
    ) -> Result<Option<Command>, Fault> {
        let sql = command::taking(&self.schema, &lease::is_kept(&self.schema, 3));
        let query = sqlx::query_as(AssertSqlSafe(sql))
            .bind(pause.as_secs_f64())
            .bind(streams)
            .bind(lease.group())
            .bind(lease.epoch())
            .bind(lease.nonce());
        with_deadline(self.deadline, query.fetch_optional(&self.pool)).await
    }

    /// Does what `act` says, once, and returns how the request ended and what came of it.
    ///
    /// # Errors
    /// Fenced, where another holds the group; after any error nothing was done.
    pub async fn obey(
        &self,
        lease: &Lease,
        command: &Command,
        act: &Act<'_>,
    ) -> Result<(Outcome, String), Fault> {
        let (stream, why) = (command.stream.as_str(), command.reason.as_str());
        let deadline = self.deadline;
        let mut connection = self.target.connect().await?;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        let fence = Fence::raise(&mut transaction, self, lease).await?;
        let done = |result: String| (Outcome::Done, result);
        let (outcome, result) = match act {
            Act::Begin(changes) => {
                self.change_in(&mut transaction, &fence, lease, changes).await?;
                done("begun".to_owned())
            }
            Act::Cancel { id } => {
                let done = self.cancel_walk(&mut transaction, stream, *id, why).await?;
                said(
                    done,
                    "cancelled",
                    "there is no such resync under way, or it cannot be cancelled before it is \
                     completed; `tidemark pause` stops it for a while",
                )
            }
            Act::Approve { id } => {
                let done = self.approve_walk(&mut transaction, stream, *id).await?;
                said(done, "approved", "there is no such resync held")
            }
            Act::Rewind { to, streams, present } => {
                self.retire_position(&mut transaction, lease, why).await?;
                self.begin_at(&mut transaction, lease, to).await?;
                self.note_ahead(&mut transaction, streams, *present).await?;
                fence.advance(&mut transaction, Some(to)).await?;
                done(format!("goes on from {}", to.cluster_time.at().format("%Y-%m-%dT%H:%M:%SZ")))
            }
            Act::Discard { ids } => {
                let discarded = self.discard_letters(&mut transaction, stream, ids).await?;
                done(format!("{discarded} discarded"))
            }
            Act::Accept { number } => {
                self.accept_letters(&mut transaction, stream, (*number).max(0)).await?;
                done(format!("{number} more may be set aside"))
            }
            Act::Pause(pause) => {
                self.cancel_open_walk(&mut transaction, stream, &pause.to_string()).await?;
                self.pause(&mut transaction, stream, pause).await?;
                done(pause.to_string())
            }
            Act::Resume => {
                let done = self.resume(&mut transaction, stream).await?;
                said(done, "goes on, with a resync of its table", "the stream is not paused")
            }
            Act::Done(result) => done(result.clone()),
            Act::Refuse(why) => (Outcome::Refused, format!("refused: {why}")),
            Act::Fail(why) => (Outcome::Failed, why.clone()),
        };
        self.finish_command(&mut transaction, command.id, outcome, &result).await?;
        with_deadline(deadline, transaction.commit()).await?;
        Ok((outcome, result))
    }
}

fn said(done: bool, yes: &str, no: &str) -> (Outcome, String) {
    if done {
        (Outcome::Done, yes.to_owned())
    } else {
        (Outcome::Refused, format!("refused: {no}"))
    }
}
