//! Commits the positions of groups that are silent together: who is the first to be due is waited
//! with for a moment, in which the others of the process are called.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::Writer;
use crate::apply::table_writer::TableWriter;
use crate::apply::work::Commit;
use crate::error::Fault;
use crate::failpoint;
use crate::state::{IdleEnd, IdlePosition, StateTables};

/// How long the first waits for the others, who come when they are called.
const WINDOW: Duration = Duration::from_millis(50);

/// How many may wait: more commit by themselves.
const WAITING_MAX: usize = 1_024;

/// The way to a commit in common, of one process.
#[derive(Debug, Clone)]
pub struct Together {
    waiting: mpsc::Sender<(IdlePosition, oneshot::Sender<IdleEnd>)>,
    calls: watch::Receiver<()>,
}

impl Together {
    /// Goes on for as long as somebody may ask.
    pub fn start(state: StateTables) -> Self {
        let (waiting, come) = mpsc::channel(WAITING_MAX);
        let (call, calls) = watch::channel(());
        tokio::spawn(gather(state, come, call));
        Self { waiting, calls }
    }

    /// Commits a position with those of others.
    async fn commit(&self, idle: IdlePosition) -> IdleEnd {
        let (tell, told) = oneshot::channel();
        if self.waiting.try_send((idle, tell)).is_err() {
            return IdleEnd::LeftOut;
        }
        // Whoever gathers has died amid a commit, if nobody tells.
        told.await.unwrap_or(IdleEnd::InDoubt)
    }
}

/// Calls to a group that is silent, and whose position is not quite new: to commit it with others.
#[derive(Debug)]
pub struct Calls(Option<watch::Receiver<()>>);

impl Calls {
    /// None come where there are no others.
    pub fn of(together: Option<&Together>) -> Self {
        Self(together.map(|together| together.calls.clone()))
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        if let Some(calls) = &mut self.0
            && calls.changed().await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

async fn gather(
    state: StateTables,
    mut come: mpsc::Receiver<(IdlePosition, oneshot::Sender<IdleEnd>)>,
    call: watch::Sender<()>,
) {
    while let Some(first) = come.recv().await {
        call.send_replace(());
        tokio::time::sleep(WINDOW).await;
        let (mut positions, mut tells) = (vec![first.0], vec![first.1]);
        while let Ok((idle, tell)) = come.try_recv() {
            positions.push(idle);
            tells.push(tell);
        }
        for (tell, end) in tells.into_iter().zip(state.commit_idle(&positions).await) {
            let _ = tell.send(end);
        }
    }
}

impl Writer {
    /// An idle position may be committed with those of others. `false`: it has not been.
    pub(super) async fn commit_together(&mut self, commit: &Commit) -> Result<bool, Fault> {
        let (Some(together), Some(revision), Some(position)) =
            (&self.together, self.made, commit.idle_position())
        else {
            return Ok(false);
        };
        let looks = commit.looks.iter().filter_map(|stream| self.tables.get(*stream));
        let idle = IdlePosition {
            lease: self.lease.clone(),
            revision,
            position: position.clone(),
            looks: looks.map(TableWriter::looked_at).collect(),
        };
        failpoint::hit("apply.begun");
        match together.commit(idle).await {
            IdleEnd::Landed => {
                failpoint::hit("apply.after_commit");
                self.made = Some(revision + 1);
                Ok(true)
            }
            IdleEnd::LeftOut => Ok(false),
            IdleEnd::InDoubt => Err(self.doubts(revision, Vec::new())),
        }
    }
}
