//! The commands that look at and mend what a stream has stored.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{complain, ends, exit, failed, print, print_json, render};
use crate::error::Fault;
use crate::ops::command::{Asked, ask};
use crate::ops::{self, resync as walks};
use crate::settings::Settings;

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

#[derive(Debug, Args)]
pub(super) struct Act {
    /// Do it; without this, only say what would be done
    #[arg(long)]
    pub execute: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
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

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    stream: String,
    /// Compare this many documents picked at random, instead of all
    #[arg(long, value_name = "N")]
    sample: Option<u64>,
    /// Ask for a resync if anything differs
    #[arg(long)]
    repair: bool,
    /// Why the repair; recorded with who and when
    #[arg(long, value_name = "TEXT", default_value = "a comparison found differences")]
    reason: String,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CheckpointArgs {
    #[command(subcommand)]
    verb: CheckpointVerb,
}

#[derive(Debug, Subcommand)]
enum CheckpointVerb {
    /// The stored position, decoded
    Show {
        stream: String,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Retired positions, newest first
    History {
        stream: String,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Go back to an earlier position; what follows it is applied again, which is harmless
    Rewind {
        stream: String,
        /// A retired position's id, a time (2026-11-22T10:14:50Z), or a resume token in hex
        #[arg(long, value_name = "TOKEN|TIME|ID")]
        to: String,
        /// Why; recorded with who and when
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        act: Act,
    },
}

pub(super) async fn resync(settings: &Settings, args: ResyncArgs) -> u8 {
    let done = match args.verb {
        Some(ResyncVerb::List { json }) => list(settings, json).await,
        Some(ResyncVerb::Cancel(one)) => about(settings, "resync_cancel", &one).await,
        Some(ResyncVerb::Approve(one)) => about(settings, "resync_approve", &one).await,
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
    done.unwrap_or_else(|fault| failed(&fault))
}

async fn list(settings: &Settings, json: bool) -> Result<u8, Fault> {
    let (_, checkpoints) = ends(settings)?;
    let listed = walks::list(&checkpoints).await?;
    show(json, listed.as_slice(), render::walks);
    Ok(0)
}

async fn begin(settings: &Settings, stream: &str, reason: &str, act: &Act) -> Result<u8, Fault> {
    let (target, checkpoints) = ends(settings)?;
    let preview = walks::preview(settings, &target, &checkpoints, stream).await?;
    if !act.execute {
        show(act.json, &preview, render::preview);
        return Ok(only_shown());
    }
    let asked = ask(&checkpoints, "resync", stream, &serde_json::json!({}), reason).await?;
    Ok(answer(&asked, act.json))
}

async fn about(settings: &Settings, verb: &str, one: &OneWalk) -> Result<u8, Fault> {
    let (_, checkpoints) = ends(settings)?;
    let walk = walks::open(&checkpoints, one.id).await?;
    if !one.act.execute {
        show(
            one.act.json,
            [walks::Listed { walk, gap: None, asked: None, approved: None }].as_slice(),
            render::walks,
        );
        return Ok(only_shown());
    }
    let asked =
        ask(&checkpoints, verb, &walk.stream, &serde_json::json!({ "id": one.id }), &one.reason)
            .await?;
    Ok(answer(&asked, one.act.json))
}

pub(super) async fn checkpoint(settings: &Settings, args: CheckpointArgs) -> u8 {
    let done = match args.verb {
        CheckpointVerb::Show { stream, json } => show_checkpoint(settings, &stream, json).await,
        CheckpointVerb::History { stream, json } => history(settings, &stream, json).await,
        CheckpointVerb::Rewind { stream, to, reason, act } => {
            rewind(settings, &stream, &to, &reason, &act).await
        }
    };
    done.unwrap_or_else(|fault| failed(&fault))
}

async fn show_checkpoint(settings: &Settings, stream: &str, json: bool) -> Result<u8, Fault> {
    let (_, checkpoints) = ends(settings)?;
    let shown = ops::checkpoint::show(settings, &checkpoints, stream).await?;
    show(json, &shown, render::checkpoint);
    Ok(0)
}

async fn history(settings: &Settings, stream: &str, json: bool) -> Result<u8, Fault> {
    let (_, checkpoints) = ends(settings)?;
    walks::own_stream(settings, &checkpoints, stream).await?;
    let retired = checkpoints.retired(stream).await?;
    show(json, retired.as_slice(), render::retired);
    Ok(0)
}

async fn rewind(
    settings: &Settings,
    stream: &str,
    to: &str,
    reason: &str,
    act: &Act,
) -> Result<u8, Fault> {
    let (_, checkpoints) = ends(settings)?;
    let rewind = ops::checkpoint::rewind(settings, &checkpoints, stream, to).await?;
    if !act.execute {
        show(act.json, &rewind, render::rewind);
        return Ok(only_shown());
    }
    let asked = ask(&checkpoints, "checkpoint_rewind", stream, &rewind.arguments, reason).await?;
    Ok(answer(&asked, act.json))
}

pub(super) async fn compare(settings: &Settings, args: &CompareArgs) -> u8 {
    let compared = async {
        let (target, checkpoints) = ends(settings)?;
        let stream = walks::own_stream(settings, &checkpoints, &args.stream).await?;
        let plan = ops::compare::Plan {
            sample: args.sample,
            documents_per_second_max: settings.resync.documents_per_second_max,
        };
        let compared = ops::compare::compare(settings, &target, &checkpoints, stream, plan).await?;
        let asked = if args.repair && !compared.is_equal() {
            let arguments = serde_json::json!({ "divergence": true });
            Some(ask(&checkpoints, "resync", &args.stream, &arguments, &args.reason).await?)
        } else {
            None
        };
        Ok::<_, Fault>((compared, asked))
    };
    match compared.await {
        Err(fault) => failed(&fault),
        Ok((compared, asked)) => {
            if args.json {
                print_json(&serde_json::json!({ "compared": compared, "repair": asked }));
            } else {
                print(&render::compared(&compared));
            }
            let refused = asked.is_some_and(|asked| answer(&asked, args.json) != 0);
            if compared.is_equal() && !refused { 0 } else { exit::FAILED }
        }
    }
}

/// A report, for a script or for a person.
pub(super) fn show<T: Serialize + ?Sized>(
    json: bool,
    report: &T,
    table: impl FnOnce(&T) -> String,
) {
    if json {
        print_json(report);
    } else {
        print(&table(report));
    }
}

/// A preview changes nothing, and says how to go on.
pub(super) fn only_shown() -> u8 {
    complain("nothing was changed; add --execute to do it");
    0
}

pub(super) fn answer(asked: &Asked, json: bool) -> u8 {
    if json {
        print_json(asked);
    } else {
        print(&render::asked(asked));
    }
    if asked.refused() { exit::FAILED } else { 0 }
}
