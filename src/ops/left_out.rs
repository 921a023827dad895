//! What is not done about a stream that its group goes on without, said before it is asked for.

use super::slip::{Slip, Unable};
use crate::error::Fault;
use crate::state::{StateTables, StreamRow};

const PAUSED: &str = "`tidemark resume STREAM --reason TEXT --execute` ends that, with a resync of \
                      its table";

const PARKED: &str = "once the cause is gone its whole table is repaired; `tidemark status \
                      --stream STREAM` says how it is";

/// # Errors
/// It is paused: its table is not walked.
pub async fn refuse_paused(state: &StateTables, stream: &str) -> Result<(), Unable> {
    let row = state.stream_row(stream).await?;
    let Some(pause) = row.as_ref().and_then(StreamRow::pause_in_force) else { return Ok(()) };
    Err(Slip::new(format!("stream {stream} is {pause}"), PAUSED).into())
}

/// # Errors
/// It is paused or parked: none of its documents is read again by itself.
pub async fn refuse_left_out(state: &StateTables, stream: &str) -> Result<(), Unable> {
    let row = state.stream_row(stream).await?;
    let Some(row) = row else { return Ok(()) };
    let Some(why) = row.left_out() else { return Ok(()) };
    let hint = if row.pause().is_some() { PAUSED } else { PARKED };
    Err(Slip::new(format!("stream {stream} is {why}"), hint).into())
}

/// What is to be said of a comparison with a table that its group goes on without.
///
/// # Errors
/// Whatever Postgres answers.
pub async fn note(state: &StateTables, stream: &str) -> Result<Option<String>, Fault> {
    let row = state.stream_row(stream).await?;
    let why = row.as_ref().and_then(StreamRow::left_out);
    Ok(why.map(|why| {
        format!("the stream is {why}; what it has missed meanwhile counts as a difference")
    }))
}
