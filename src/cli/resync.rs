//! `tidemark resync`: preview and ask for one, of a stream or a part of it; list them, end one, let
//! a held one go on.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::console::{Act, answer, ends, failed, only_shown, only_shown_yet, show};
use super::render;
use crate::ops::command::ask;
use crate::ops::resync as walks;
use crate::ops::resync_part::{self, Which};
use crate::ops::slip::{Slip, Unable};
use crate::settings::Settings;
use crate::state::Verb;

/// How many requests to resync a part are listed.
const LISTED: i64 = 50;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ResyncArgs {
    #[command(subcommand)]
    verb: Option<ResyncVerb>,
    /// The stream to repair
    #[arg(required = true)]
    stream: Option<String>,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", required = true, value_parser = super::console::reason)]
    reason: Option<String>,
    #[command(flatten)]
    part: PartArgs,
    #[command(flatten)]
    act: Act,
}

/// Which documents are read again; without any of these, all are.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct PartArgs {
    /// Only the documents with these ids, written as in the table's column id
    #[arg(long, value_name = "ID,…")]
    ids: Option<String>,
    /// The same from a file, one id a line; - is standard input
    #[arg(long, value_name = "FILE")]
    ids_file: Option<PathBuf>,
    /// Only the documents that the source finds by this filter, in Extended JSON
    #[arg(long, value_name = "JSON")]
    filter: Option<String>,
}

#[derive(Debug, Subcommand)]
enum ResyncVerb {
    /// The latest walks, with what each repaired
    List {
        /// The latest requests to resync a part, instead
        #[arg(long)]
        parts: bool,
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
    /// The resync, as `resync list` numbers it
    id: i64,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    #[arg(required_if_eq("execute", "true"))]
    reason: Option<String>,
    #[command(flatten)]
    act: Act,
}

pub(super) async fn resync(settings: &Settings, args: ResyncArgs) -> u8 {
    let done = match args.verb {
        Some(ResyncVerb::List { parts: true, json }) => list_parts(settings, json).await,
        Some(ResyncVerb::List { parts: false, json }) => list(settings, json).await,
        Some(ResyncVerb::Cancel(one)) => about(settings, Verb::ResyncCancel, &one).await,
        Some(ResyncVerb::Approve(one)) => about(settings, Verb::ResyncApprove, &one).await,
        None => {
            let stream = args.stream.unwrap_or_default();
            let reason = args.reason.unwrap_or_default();
            match args.part.which() {
                Err(slip) => Err(slip.into()),
                Ok(None) => begin(settings, &stream, &reason, &args.act).await,
                Ok(Some(which)) => part(settings, &stream, &which, &reason, &args.act).await,
            }
        }
    };
    done.unwrap_or_else(failed)
}

async fn list(settings: &Settings, json: bool) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let listed = walks::list(settings, &state).await?;
    show(json, listed.as_slice(), render::walks);
    Ok(0)
}

async fn list_parts(settings: &Settings, json: bool) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let listed = state.parts(LISTED).await?;
    show(json, listed.as_slice(), render::parts);
    Ok(0)
}

impl PartArgs {
    /// The documents that are meant, if not all are.
    fn which(self) -> Result<Option<Which>, Slip> {
        Ok(match (self.ids, self.ids_file, self.filter) {
            (Some(ids), ..) => Some(Which::Ids(resync_part::read_list(&ids)?)),
            (_, Some(file), _) => Some(Which::Ids(resync_part::read_lines(&read(&file)?)?)),
            (.., Some(filter)) => Some(Which::Filter(filter)),
            (None, None, None) => None,
        })
    }
}

fn read(file: &Path) -> Result<String, Slip> {
    let read = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    read.map_err(|error| {
        let hint = "name a text file with --ids-file, one id a line";
        Slip::new(format!("{} cannot be read: {error}", file.display()), hint)
    })
}

async fn part(
    settings: &Settings,
    stream: &str,
    which: &Which,
    reason: &str,
    act: &Act,
) -> Result<u8, Unable> {
    let (target, state) = ends(settings)?;
    let preview = resync_part::preview(settings, &target, &state, stream, which).await?;
    if !act.execute {
        show(act.json, &preview, render::part);
        return Ok(only_shown());
    }
    let asked = resync_part::ask_for(&state, &preview, reason).await?;
    Ok(answer(&asked, act.json))
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
    let walk = match verb {
        Verb::ResyncCancel => walks::cancellable(&state, one.id).await?,
        _ => walks::open(&state, one.id).await?,
    };
    if !one.act.execute {
        show(
            one.act.json,
            [walks::Listed { walk, gap: None, is_left: false, asked: None, approved: None }]
                .as_slice(),
            render::walks,
        );
        return Ok(only_shown_yet(one.reason.as_deref()));
    }
    let (arguments, reason) = (serde_json::json!({ "id": one.id }), one.reason.as_deref());
    let reason = reason.unwrap_or_default();
    let asked = ask(&state, verb, &walk.stream, &arguments, reason).await?;
    Ok(answer(&asked, one.act.json))
}
