//! The command that forgets what is over.

use chrono::{DateTime, Utc};
use clap::Args;

use super::console::{Act, answer, ends, failed, only_shown_yet, show};
use super::render;
use crate::ops::command::ask;
use crate::ops::purge;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;

#[derive(Debug, Args)]
pub(super) struct PurgeArgs {
    /// What was over by then: a time (2026-11-22T18:00:00Z), or a length of time ago (90d)
    #[arg(long, value_name = "TIME", value_parser = purge::before)]
    before: DateTime<Utc>,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    #[arg(required_if_eq("execute", "true"))]
    reason: Option<String>,
    #[command(flatten)]
    act: Act,
}

pub(super) async fn purge(settings: &Settings, args: &PurgeArgs) -> u8 {
    forget(settings, args).await.unwrap_or_else(failed)
}

async fn forget(settings: &Settings, args: &PurgeArgs) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    if !args.act.execute {
        let over = purge::preview(&state, args.before).await?;
        show(args.act.json, over.as_slice(), render::forgettable);
        return Ok(only_shown_yet(args.reason.as_deref()));
    }
    let (arguments, reason) = (purge::arguments(args.before), args.reason.as_deref());
    let asked = ask(&state, Verb::Purge, "", &arguments, reason.unwrap_or_default()).await?;
    Ok(answer(&asked, args.act.json))
}
