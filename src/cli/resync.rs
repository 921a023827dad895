//! `tidemark resync`: preview and ask for one, list them, end one, let a held one go on.

use clap::{Args, Subcommand};

use super::console::{Act, answer, ends, failed, only_shown, show};
use super::render;
use crate::ops::command::ask;
use crate::ops::resync as walks;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ResyncArgs {
    #[command(subcommand)]
    verb: Option<ResyncVerb>,
    /// The stream to repair
    #[arg(required = true)]
    stream: Option<String>,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", required = true)]
    reason: Option<String>,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, Subcommand)]
enum ResyncVerb {
    /// The latest walks, with what each repaired
    List {
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// End a resync where it is; the stream goes on
    Cancel(OneWalk),
    /// Let a held resync go on: its sweep deletes what it found, or its time limit is lifted
    Approve(OneWalk),
}

#[derive(Debug, Args)]
struct OneWalk {
    id: i64,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    act: Act,
}

pub(super) async fn resync(settings: &Settings, args: ResyncArgs) -> u8 {
    let done = match args.verb {
        Some(ResyncVerb::List { json }) => list(settings, json).await,
        Some(ResyncVerb::Cancel(one)) => about(settings, Verb::ResyncCancel, &one).await,
        Some(ResyncVerb::Approve(one)) => about(settings, Verb::ResyncApprove, &one).await,
        None => {
            begin(
                settings,
                &args.stream.unwrap_or_default(),
                &args.reason.unwrap_or_default(),
                &args.act,
            )
            .await
        }
    };
    done.unwrap_or_else(failed)
}

async fn list(settings: &Settings, json: bool) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let listed = walks::list(&state).await?;
    show(json, listed.as_slice(), render::walks);
    Ok(0)
}

async fn begin(settings: &Settings, stream: &str, reason: &str, act: &Act) -> Result<u8, Unable> {
    let (target, state) = ends(settings)?;
    let preview = walks::preview(settings, &target, &state, stream).await?;
    if !act.execute {
        show(act.json, &preview, render::preview);
        return Ok(only_shown());
    }
    let asked = ask(&state, Verb::Resync, stream, &serde_json::json!({}), reason).await?;
    Ok(answer(&asked, act.json))
}

async fn about(settings: &Settings, verb: Verb, one: &OneWalk) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let walk = walks::open(&state, one.id).await?;
    if !one.act.execute {
        show(
            one.act.json,
            [walks::Listed { walk, gap: None, asked: None, approved: None }].as_slice(),
            render::walks,
        );
        return Ok(only_shown());
    }
    let asked =
        ask(&state, verb, &walk.stream, &serde_json::json!({ "id": one.id }), &one.reason).await?;
    Ok(answer(&asked, one.act.json))
}
