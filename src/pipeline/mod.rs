//! Joins the steps for one group of streams: read, gather, write, remember, and walks between
//! batches.
//!
//! Three tasks with bounded hand-overs: the reader talks to the source, the preparer gathers, looks
//! up and encodes, the applier (the owner of the group's state) writes. While one batch is written
//! the next is prepared and the one after it read. Nothing here waits for status, alerts or logs.

mod applier;
mod binding;
mod block_in_place;
mod care;
mod chunk_reader;
mod command;
mod context;
mod dead_letter;
mod encoder;
mod pause;
mod preparer;
mod reader;
mod resync;
mod resync_part;
mod search;
mod start;
mod sweeper;
mod unpark;
mod walker;
mod walks;

use uuid::Uuid;

pub use command::obey;
pub(crate) use context::retry;
pub use context::{Context, Ended, GroupContext, Signals, wait};

use crate::error::{Class, Code, Fault};
use crate::state::Lease;

/// Follows one group under one lease until told to stop or stopped by trouble. The ladder when a
/// position is refused: the reader asks once more; then the group's tables are repaired by resyncs,
/// as far as that is allowed; else it halts.
///
/// `halted` is why the pipeline before this one stopped.
pub async fn run(
    group: &GroupContext,
    lease: &Lease,
    signals: &Signals,
    halted: Option<&Fault>,
) -> Ended {
    let run = Uuid::new_v4();
    let ended = follow(group, lease, signals, halted, run).await;
    // A bug is no good order: it may be a document that it is about. That it cannot be said costs
    // nothing but care.
    let in_good_order = match &ended {
        Ended::Fenced => false,
        Ended::Halted(fault) => fault.class != Class::Bug,
        Ended::Drained | Ended::Commanded | Ended::Again | Ended::Lost(_) | Ended::Rewound(_) => {
            true
        }
    };
    if in_good_order {
        let _ = group.state.ended_well(run).await;
    }
    ended
}

async fn follow(
    group: &GroupContext,
    lease: &Lease,
    signals: &Signals,
    halted: Option<&Fault>,
    run: Uuid,
) -> Ended {
    let mut trouble = halted.cloned();
    loop {
        group.status.taken_up();
        let start = async {
            let started = start::start(group, lease, trouble.as_ref()).await?;
            let cares = care::Cares::of(group, lease, run, &started.position, &started.walks);
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
        match Box::pin(applier::run(group, lease, signals, started, cares)).await {
            Ended::Lost(fault) => trouble = Some(fault),
            // Another collection may be in its place already, as after `$out`.
            Ended::Halted(fault) if fault.code == Code::SourceDropped => trouble = Some(fault),
            Ended::Rewound(fault) => {
                group.status.rewound(&fault.message);
                group.doubt();
                trouble = None;
            }
            Ended::Again => trouble = None,
            ended => return ended,
        }
    }
}
