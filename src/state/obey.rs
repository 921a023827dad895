//! What a request does to a stream's rows: one fenced transaction with the mark that it was obeyed.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

use super::resync::may_become;
use super::{Beginning, Checkpoints, Fence, Lease, Outcome};
use crate::error::{Code, Fault};
use crate::model::position::Position;
use crate::model::reason::Reason;
use crate::model::resync_state::ResyncState;
use crate::postgres::with_deadline;

/// What is done about a request.
#[derive(Debug)]
pub enum Act<'a> {
    /// Begin a resync.
    Begin(Box<Beginning<'a>>),
    /// End a resync where it is.
    Cancel { id: i64 },
    /// Let a held resync go on.
    Approve { id: i64 },
    /// Go on from another position; the present one is archived.
    Rewind { to: &'a Position },
    /// Give dead letters up.
    Discard { ids: &'a [i64] },
    /// Let so many dead letters pass beyond what an accident brings.
    Accept { number: i64 },
    /// Nothing more: it is done already, with this result.
    Done(String),
    /// Nothing, for this reason.
    Refuse(String),
    /// Nothing more: it cannot be done, for this reason.
    Fail(String),
}

impl Checkpoints {
    /// Does it, once, and says how the request ended and what came of it.
    ///
    /// # Errors
    /// Fenced, or whatever Postgres answers; then nothing was done.
    pub async fn obey(
        &self,
        lease: &Lease,
        command: i64,
        why: &str,
        act: &Act<'_>,
    ) -> Result<(Outcome, String), Fault> {
        let deadline = self.target.deadline();
        let mut connection = self.target.connect().await?;
        let mut transaction = with_deadline(deadline, connection.begin()).await?;
        let fence = Fence::raise(&mut transaction, &self.target, self, lease).await?;
        let done = |result: String| (Outcome::Done, result);
        let (outcome, result) = match act {
            Act::Begin(beginning) => {
                self.begin_walk_in(&mut transaction, &fence, lease, beginning).await?;
                done("begun".to_owned())
            }
            Act::Cancel { id } => {
                let done = self.cancel(&mut transaction, lease.stream(), *id, why).await?;
                said(done, "cancelled", "there is no such resync under way")
            }
            Act::Approve { id } => {
                let done = self.approve(&mut transaction, lease.stream(), *id).await?;
                said(done, "approved", "there is no such resync held")
            }
            Act::Rewind { to } => {
                self.retire_position(&mut transaction, lease.stream(), why).await?;
                self.begin_at(&mut transaction, lease.stream(), to).await?;
                fence.advance(&mut transaction, &self.target, Some(to)).await?;
                done(format!("goes on from {}", to.cluster_time.at().format("%Y-%m-%dT%H:%M:%SZ")))
            }
            Act::Discard { ids } => {
                let discarded = self.discard(&mut transaction, lease.stream(), ids).await?;
                done(format!("{discarded} discarded"))
            }
            Act::Accept { number } => {
                self.accept_letters(&mut transaction, lease.stream(), *number).await?;
                done(format!("{number} more may be set aside"))
            }
            Act::Done(result) => done(result.clone()),
            Act::Refuse(why) => (Outcome::Refused, format!("refused: {why}")),
            Act::Fail(why) => (Outcome::Failed, why.clone()),
        };
        self.finish_command(&mut transaction, command, outcome, &result).await?;
        with_deadline(deadline, transaction.commit()).await?;
        Ok((outcome, result))
    }

    async fn cancel(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        id: i64,
        why: &str,
    ) -> Result<bool, Fault> {
        let (schema, cancelled) = (self.schema(), ResyncState::Cancelled);
        let (open, snapshot) = (may_become(cancelled), Reason::FirstSnapshot);
        let sql = AssertSqlSafe(format!(
            "with ended as (update {schema}.resync set state = '{cancelled}', ended_at = now(), \
             note = $3 where id = $2 and stream = $1 and {open} and reason <> '{snapshot}' \
             returning id), forgotten as (delete from \
             {schema}.resync_seen where resync_id in (select id from ended)), forgotten_too as \
             (delete from {schema}.resync_kept where resync_id in (select id from ended)) select \
             count(*) > 0 from ended"
        ));
        let query = sqlx::query_scalar(sql).bind(stream).bind(id).bind(why);
        with_deadline(self.target.deadline(), query.fetch_one(connection)).await
    }

    async fn approve(
        &self,
        connection: &mut PgConnection,
        stream: &str,
        id: i64,
    ) -> Result<bool, Fault> {
        let (schema, sweep) = (self.schema(), Code::ResyncHeld);
        let (held, sweeping, running) =
            (ResyncState::Held, ResyncState::Sweeping, ResyncState::Running);
        let sql = AssertSqlSafe(format!(
            "update {schema}.resync set state = case held_code when '{sweep}' then '{sweeping}' \
             else '{running}' end, approved_at = case held_code when '{sweep}' then now() end, \
             rows_approved = case held_code when '{sweep}' then rows_to_delete end, held_code = \
             null, note = null, deadline_at = null where id = $2 and stream = $1 and state = \
             '{held}'"
        ));
        let query = sqlx::query(sql).bind(stream).bind(id);
        Ok(with_deadline(self.target.deadline(), query.execute(connection)).await?.rows_affected()
            == 1)
    }
}

fn said(done: bool, yes: &str, no: &str) -> (Outcome, String) {
    if done {
        (Outcome::Done, yes.to_owned())
    } else {
        (Outcome::Refused, format!("refused: {no}"))
    }
}
