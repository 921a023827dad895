//! The command that waits until a table shows a time.

use std::time::Duration;

use clap::Args;

use super::console::{ends, exit, failed, show};
use crate::model::position::ClusterTime;
use crate::ops::slip::Unable;
use crate::ops::wait::{self, Waited};
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct WaitArgs {
    /// The stream whose table is waited for
    stream: String,
    /// A time (2026-11-22T18:00:00Z), a cluster time SECONDS.INCREMENT, or a number as a row's time
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    until: ClusterTime,
    /// How long; exit 75 if the table does not show it by then
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
    /// Print what came of it as JSON
    #[arg(long)]
    json: bool,
}

fn time(text: &str) -> Result<ClusterTime, String> {
    wait::time(text).map_err(|slip| format!("{slip}; {}", slip.hint))
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::settings::parse_duration(text)
}

pub(super) async fn wait(settings: &Settings, args: &WaitArgs) -> u8 {
    wait_for(settings, args).await.unwrap_or_else(failed)
}

async fn wait_for(settings: &Settings, args: &WaitArgs) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let waited = wait::wait(settings, &state, &args.stream, args.until, args.timeout).await?;
    show(args.json, &waited, told);
    Ok(if waited.shown { 0 } else { exit::TRY_AGAIN })
}

fn told(waited: &Waited) -> String {
    let (until, position) = waited.times;
    let (until, stream) = (shown(until), &waited.stream);
    let position = position.map_or_else(|| "none".to_owned(), shown);
    match (waited.shown, &waited.because) {
        (true, _) => format!("{stream} shows {until}\n"),
        (false, Some(because)) => format!(
            "{stream} does not show it: {because}; `tidemark status --stream {stream}` says more\n"
        ),
        (false, None) => format!(
            "{stream} does not show {until} yet: its position is {position}; `tidemark status` \
             says why\n"
        ),
    }
}

/// As people write it, with the place in its second unless all of that is meant.
fn shown(of: ClusterTime) -> String {
    let second = of.at().format("%Y-%m-%dT%H:%M:%SZ");
    if of.increment() == u32::MAX { second.to_string() } else { format!("{second} ({of})") }
}
