//! Joins the steps for one stream: read → gather → write → remember, and the walk between
//! batches.
//!
//! Three tasks with bounded hand-overs: the reader talks to the source, the preparer gathers, looks
//! up and encodes, the applier (the owner of the stream's state) writes. While one batch is written
//! the next is prepared and the one after it read. Nothing here waits for status, alerts or logs.

mod applier;
mod binding;
mod block_in_place;
mod care;
mod chunk_reader;
mod command;
mod context;
mod dead_letter;
mod preparer;
mod reader;
mod resync;
mod search;
mod start;
mod sweeper;
mod walker;

use uuid::Uuid;

pub use command::obey;
pub(crate) use context::retry;
pub use context::{Context, Ended, Signals};

use crate::error::{Class, Code, Fault};
use crate::state::Lease;

/// Follows one stream under one lease until told to stop or stopped by trouble. The ladder when a
/// position is refused: the reader asks once more; then the stream is repaired by a resync, if that
/// is allowed; else it halts.
///
/// `halted` is why the pipeline before this one stopped.
pub async fn run(
    context: &Context,
    lease: &Lease,
    signals: &Signals,
    halted: Option<&Fault>,
) -> Ended {
    let run = Uuid::new_v4();
    let ended = follow(context, lease, signals, halted, run).await;
    // A bug is no good order: it may be a document that it is about. That it cannot be said costs
    // nothing but care.
    let in_good_order = match &ended {
        Ended::Fenced => false,
        Ended::Halted(fault) => fault.class != Class::Bug,
        Ended::Drained | Ended::Commanded | Ended::Lost(_) | Ended::Rewound(_) => true,
    };
    if in_good_order {
        let _ = context.state.ended_well(lease.stream(), run).await;
    }
    ended
}

async fn follow(
    context: &Context,
    lease: &Lease,
    signals: &Signals,
    halted: Option<&Fault>,
    run: Uuid,
) -> Ended {
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
            Some(Err(fault)) => return Ended::of(fault),
            None if signals.lost.is_cancelled() => return Ended::Fenced,
            None if signals.drain.is_cancelled() => return Ended::Drained,
            None => return Ended::Commanded,
        };
        match Box::pin(applier::run(context, lease, signals, started, cares)).await {
            Ended::Lost(fault) => trouble = Some(fault),
            // Another collection may be in its place already, as after `$out`.
            Ended::Halted(fault) if fault.code == Code::SourceDropped => trouble = Some(fault),
            Ended::Rewound(fault) => {
                context.status.rewound(&fault.message);
                trouble = None;
            }
            ended => return ended,
        }
    }
}
