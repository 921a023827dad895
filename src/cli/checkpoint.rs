//! `tidemark checkpoint`: the stored position, those retired, and the way back to one.

use clap::{Args, Subcommand};

use super::console::{Act, answer, ends, failed, only_shown, show};
use super::render;
use crate::ops;
use crate::ops::command::ask;
use crate::ops::resync::own_stream;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;

#[derive(Debug, Args)]
pub(super) struct CheckpointArgs {
    #[command(subcommand)]
    verb: CheckpointVerb,
}

#[derive(Debug, Subcommand)]
enum CheckpointVerb {
    /// The stored position, decoded
    Show {
        /// The stream; the position is its group's
        stream: String,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Retired positions, newest first
    History {
        /// The stream; the position is its group's
        stream: String,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Go back to an earlier position; what follows it is applied again, which is harmless
    Rewind {
        /// The stream; the position is its group's
        stream: String,
        /// A retired position's id, a time (2026-11-22T10:14:50Z), or a resume token in hex
        #[arg(long, value_name = "TOKEN|TIME|ID")]
        to: String,
        /// Why; recorded with who and when
        #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
        reason: String,
        #[command(flatten)]
        act: Act,
    },
}

pub(super) async fn checkpoint(settings: &Settings, args: CheckpointArgs) -> u8 {
    let done = match args.verb {
        CheckpointVerb::Show { stream, json } => show_checkpoint(settings, &stream, json).await,
        CheckpointVerb::History { stream, json } => history(settings, &stream, json).await,
        CheckpointVerb::Rewind { stream, to, reason, act } => {
            rewind(settings, &stream, &to, &reason, &act).await
        }
    };
    done.unwrap_or_else(failed)
}

async fn show_checkpoint(settings: &Settings, stream: &str, json: bool) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let shown = ops::checkpoint::show(settings, &state, stream).await?;
    show(json, &shown, render::checkpoint);
    Ok(0)
}

async fn history(settings: &Settings, stream: &str, json: bool) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let config = own_stream(settings, &state, stream).await?;
    let retired = state.retired(&config.group, stream).await?;
    show(json, retired.as_slice(), render::retired);
    Ok(0)
}

async fn rewind(
    settings: &Settings,
    stream: &str,
    to: &str,
    reason: &str,
    act: &Act,
) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let rewind = ops::rewind::rewind(settings, &state, stream, to).await?;
    if !act.execute {
        show(act.json, &rewind, render::rewind);
        return Ok(only_shown());
    }
    let asked = ask(&state, Verb::CheckpointRewind, stream, &rewind.arguments, reason).await?;
    Ok(answer(&asked, act.json))
}
