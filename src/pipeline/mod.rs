//! Joins the steps for one stream: read → gather → write → remember, and the walk between batches.
//!
//! Three tasks with bounded hand-overs: the reader talks to the source, the preparer gathers, looks
//! up and encodes, the applier (the owner of the stream's state) writes. While one batch is written
//! the next is prepared and the one after it read. Nothing here waits for status, alerts or logs.

mod applier;
mod binding;
mod care;
mod chunk_reader;
mod command;
mod dead_letter;
mod heal;
mod preparer;
mod reader;
mod resync;
mod search;
mod start;
mod sweeper;
mod walker;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use command::obey;

use crate::apply::{Mapping, RowBuffers, Statements};
use crate::error::{Class, Code, Fault};
use crate::model::namespace::{Namespace, Table};
use crate::model::phase::Phase;
use crate::model::step::Step;
use crate::postgres::Target;
use crate::retry::{Backoff, Decision};
use crate::settings::{self, Settings};
use crate::source::{ChangeStreamOptions, Source};
use crate::state::{Checkpoints, Lease};
use crate::status;

/// Everything a pipeline works with. One for a stream, for the life of the process.
#[derive(Debug, Clone)]
pub struct Context {
    pub settings: Arc<Settings>,
    pub config: settings::Stream,
    pub source: Source,
    pub namespace: Namespace,
    pub target: Target,
    pub table: Table,
    pub checkpoints: Checkpoints,
    pub mapping: Arc<Mapping>,
    pub statements: Statements,
    pub buffers: RowBuffers,
    pub status: status::Stream,
    /// The table was made or widened as the configuration says: not done again.
    pub widened: Arc<AtomicBool>,
}

/// Why a pipeline ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was told to stop and has committed what it had.
    Drained,
    /// Somebody asks something of the stream; what it had is committed.
    Commanded,
    /// The server does not know the position any more.
    Lost(Fault),
    /// A person must act; or an invariant broke, which stops this stream and no other.
    Halted(Fault),
    /// Another process was granted the stream.
    Fenced,
    /// The database went back: what it says now is to be taken up.
    Rewound(Fault),
}

impl Outcome {
    /// The end an error calls for: a function of its class.
    fn of(fault: Fault) -> Self {
        match fault.class {
            Class::Fenced => Self::Fenced,
            Class::Rewound => Self::Rewound(fault),
            Class::HistoryLost => Self::Lost(fault),
            Class::Transient | Class::Unknown | Class::Record | Class::Halt | Class::Bug => {
                Self::Halted(fault)
            }
        }
    }
}

/// What tells a pipeline to end.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Finish the batch, commit, end.
    pub drain: CancellationToken,
    /// Finish the batch, commit, end: somebody asks something of the stream.
    pub commanded: CancellationToken,
    /// The lease is gone: end without another write.
    pub lost: CancellationToken,
}

impl Signals {
    async fn any(&self) {
        tokio::select! {
            () = self.end() => {}
            () = self.commanded.cancelled() => {}
        }
    }

    async fn end(&self) {
        tokio::select! {
            () = self.drain.cancelled() => {}
            () = self.lost.cancelled() => {}
        }
    }
}

impl Context {
    fn feed_options(&self) -> ChangeStreamOptions {
        ChangeStreamOptions::of(&self.config, &self.settings)
    }

    /// What the stored position must have been made under.
    pub fn fingerprint(&self) -> String {
        self.feed_options().fingerprint()
    }

    /// Waits out a failure; no longer than until Postgres gives a session again, if it was that it
    /// gave none.
    pub async fn wait(&self, delay: Duration, fault: &Fault) {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.target.answers_again(), if fault.code == Code::TargetUnreachable => {}
        }
    }

    fn enter(&self, phase: Phase) {
        self.status.entered(phase);
    }
}

/// Follows one stream under one lease until told to stop or stopped by trouble. The ladder when a
/// position is refused: the reader asks once more; then the stream is healed by a resync, if that
/// is allowed; else it halts.
///
/// `halted` is why the pipeline before this one stopped.
pub async fn run(
    context: &Context,
    lease: &Lease,
    signals: &Signals,
    halted: Option<&Fault>,
) -> Outcome {
    let run = Uuid::new_v4();
    let outcome = follow(context, lease, signals, halted, run).await;
    // A bug is no good order: it may be a document that it is about. That it cannot be said costs
    // nothing but care.
    let in_good_order = match &outcome {
        Outcome::Fenced => false,
        Outcome::Halted(fault) => fault.class != Class::Bug,
        Outcome::Drained | Outcome::Commanded | Outcome::Lost(_) | Outcome::Rewound(_) => true,
    };
    if in_good_order {
        let _ = context.checkpoints.ended_well(lease.stream(), run).await;
    }
    outcome
}

async fn follow(
    context: &Context,
    lease: &Lease,
    signals: &Signals,
    halted: Option<&Fault>,
    run: Uuid,
) -> Outcome {
    let mut trouble = halted.cloned();
    loop {
        context.status.taken_up();
        let start = async {
            let started = start::start(context, lease, trouble.as_ref()).await?;
            let (position, walk) = (started.position.clone(), started.walk.clone());
            let cares = care::Cares::of(context, lease, run, &position, walk.as_ref());
            Ok((cares.await?, started))
        };
        let started = tokio::select! {
            biased;
            () = signals.any() => None,
            started = start => Some(started),
        };
        let (cares, started) = match started {
            Some(Ok(both)) => both,
            Some(Err(fault)) => return Outcome::of(fault),
            None if signals.lost.is_cancelled() => return Outcome::Fenced,
            None if signals.drain.is_cancelled() => return Outcome::Drained,
            None => return Outcome::Commanded,
        };
        match Box::pin(applier::run(context, lease, signals, started, cares)).await {
            Outcome::Lost(fault) => trouble = Some(fault),
            // Another collection may be in its place already, as after `$out`.
            Outcome::Halted(fault) if fault.code == Code::SourceDropped => trouble = Some(fault),
            Outcome::Rewound(fault) => {
                context.status.rewound(&fault.message);
                trouble = None;
            }
            outcome => return outcome,
        }
    }
}

/// Runs what computes for `items`. For many of them another thread takes over this one's sockets
/// and timers meanwhile: the writer would wait milliseconds for answers that have come.
fn block_in_place_if_many<T>(items: usize, work: impl FnOnce() -> T) -> T {
    const FEW: usize = 100;
    if items <= FEW { work() } else { tokio::task::block_in_place(work) }
}

/// Counts, logs and waits out a failure of `step`, or gives up on it.
async fn wait_or_give_up(
    context: &Context,
    step: Step,
    backoff: &mut Backoff,
    fault: Fault,
) -> Result<(), Fault> {
    match backoff.decide(fault.clone(), std::time::Instant::now(), fastrand::f64()) {
        Decision::GiveUp(fault) => Err(fault),
        Decision::Wait(delay, attempt) => {
            context.status.retries(step, attempt, delay, &fault);
            context.wait(delay, &fault).await;
            Ok(())
        }
    }
}
