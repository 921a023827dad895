//! The command that says which source is meant.

use clap::{Args, Subcommand};

use super::console::{Act, answer, ends, failed, only_shown, show};
use super::render;
use crate::ops;
use crate::ops::command::ask;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;

#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    #[command(subcommand)]
    verb: SourceVerb,
}

#[derive(Debug, Subcommand)]
enum SourceVerb {
    /// Say that another source, or one taken back in time, is meant: the stream takes a new
    /// position and repairs its table from it by a resync
    Adopt {
        /// The stream, or any of the group that halts
        stream: String,
        /// Why; recorded with who and when
        #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
        reason: String,
        #[command(flatten)]
        act: Act,
    },
}

pub(super) async fn source(settings: &Settings, args: SourceArgs) -> u8 {
    let SourceVerb::Adopt { stream, reason, act } = args.verb;
    adopt(settings, &stream, &reason, &act).await.unwrap_or_else(failed)
}

async fn adopt(settings: &Settings, stream: &str, reason: &str, act: &Act) -> Result<u8, Unable> {
    let (target, state) = ends(settings)?;
    let adoption = ops::source::adopt(settings, &target, &state, stream).await?;
    if !act.execute {
        show(act.json, &adoption, render::adoption);
        return Ok(only_shown());
    }
    let asked = ask(&state, Verb::SourceAdopt, stream, &adoption.arguments, reason).await?;
    Ok(answer(&asked, act.json))
}
