//! The commands about events set aside.

use clap::{Args, Subcommand};

use super::console::{Act, answer, ends, failed, only_shown, print, show};
use super::render;
use crate::ops::command::ask;
use crate::ops::dead_letter::{self, LISTED};
use crate::ops::resync::own_stream;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::{Letter, Letters, Verb};

#[derive(Debug, Args)]
pub(super) struct LetterArgs {
    #[command(subcommand)]
    verb: LetterVerb,
}

#[derive(Debug, Subcommand)]
enum LetterVerb {
    /// Events set aside: those not resolved first
    List {
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// One of them; its content only if asked for
    Show {
        /// The letter, as `dead-letter list` numbers it
        id: i64,
        /// Print the event itself, as canonical Extended JSON: it holds a document's content
        #[arg(long)]
        event: bool,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Write its document as it is now, once the mapping or the table is mended
    Retry(Which),
    /// Give it up for good; it stays in the table until it is purged
    Discard(Which),
    /// Let so many more events be set aside than an accident brings, once it is known why they
    /// cannot be stored
    Accept(Accept),
}

#[derive(Debug, Args)]
struct Accept {
    /// The stream whose events may be set aside
    stream: String,
    /// How many more; 0 takes an earlier word back
    #[arg(long, value_name = "N")]
    count: u32,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    reason: String,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, Args)]
struct Which {
    /// One dead letter
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<i64>,
    /// All of a stream that are not resolved
    #[arg(long, value_name = "STREAM")]
    all: Option<String>,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    reason: String,
    #[command(flatten)]
    act: Act,
}

pub(super) async fn letter(settings: &Settings, args: LetterArgs) -> u8 {
    let done = match args.verb {
        LetterVerb::List { json } => list(settings, json).await,
        LetterVerb::Show { id, event, json } => look(settings, id, event, json).await,
        LetterVerb::Retry(which) => about(settings, Verb::DeadLetterRetry, &which).await,
        LetterVerb::Discard(which) => about(settings, Verb::DeadLetterDiscard, &which).await,
        LetterVerb::Accept(accepted) => accept(settings, &accepted).await,
    };
    done.unwrap_or_else(failed)
}

async fn list(settings: &Settings, json: bool) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let letters = state.letters(&Letters::Latest { limit: LISTED }).await?;
    show(json, letters.as_slice(), render::letters);
    Ok(0)
}

async fn look(settings: &Settings, id: i64, event: bool, json: bool) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let shown = dead_letter::show(&state, id, event).await?;
    show(json, &shown, render::fields);
    Ok(0)
}

async fn about(settings: &Settings, verb: Verb, which: &Which) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let letters: Vec<Letter> = match (which.id, &which.all) {
        (Some(id), _) => vec![dead_letter::open(&state, id).await?],
        (None, stream) => {
            let name = stream.as_deref().unwrap_or_default();
            let stream = own_stream(settings, &state, name).await?.name.clone();
            state.letters(&Letters::Open { stream, limit: LISTED }).await?
        }
    };
    let Some(stream) = letters.first().map(|letter| letter.stream.clone()) else {
        print("there is none that is not resolved; `tidemark dead-letter list` shows all\n");
        return Ok(0);
    };
    if !which.act.execute {
        show(which.act.json, letters.as_slice(), render::letters);
        return Ok(only_shown());
    }
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    let asked =
        ask(&state, verb, &stream, &serde_json::json!({ "ids": ids }), &which.reason).await?;
    Ok(answer(&asked, which.act.json))
}

async fn accept(settings: &Settings, accepted: &Accept) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let stream = &own_stream(settings, &state, &accepted.stream).await?.name;
    if !accepted.act.execute {
        let shown = dead_letter::acceptance(&state, stream, accepted.count).await?;
        show(accepted.act.json, &shown, render::fields);
        return Ok(only_shown());
    }
    let arguments = serde_json::json!({ "count": accepted.count });
    let (verb, why) = (Verb::DeadLetterAccept, &accepted.reason);
    let asked = ask(&state, verb, stream, &arguments, why).await?;
    Ok(answer(&asked, accepted.act.json))
}
