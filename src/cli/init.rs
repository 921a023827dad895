//! `tidemark init`: looks at the source and proposes a configuration.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::console::{complain, failed, print, print_json};
use super::render;
use crate::model::value::Zone;
use crate::ops::init::{
    Followed, Proposals, SCHEMA_FILE, StreamProposal, Survey, Surveyed, Wishes, append, block,
    create, survey, whole,
};
use crate::ops::slip::{Slip, Unable};
use crate::settings::{Origin, Settings};

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Propose a stream for a collection that the configuration does not follow yet: printed, or
    /// added to the end of --out; may be given several times
    #[arg(long, value_name = "COLLECTION", conflicts_with_all = ["all", "collection", "force"])]
    add: Vec<String>,
    /// Propose this collection; may be given several times
    #[arg(long, value_name = "NAME", conflicts_with = "all")]
    collection: Vec<String>,
    /// Dates that are all midnight in this zone, such as Europe/London, are days of it; may be
    /// given several times, the first that fits counts
    #[arg(long, value_name = "ZONE")]
    zone: Vec<String>,
    #[command(flatten)]
    shape: Shape,
    /// Propose every collection that can be followed, without asking
    #[arg(long)]
    all: bool,
    /// Write the configuration to this file; without it, to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long, requires = "out")]
    force: bool,
    /// Print what was found and what is proposed as JSON
    #[arg(long)]
    json: bool,
}

/// What of documents is to be kept where.
#[derive(Debug, Args)]
struct Shape {
    /// Propose a table of its own for each array of documents (`[[stream.child]]`): a row an
    /// element, with its document's id and its place
    #[arg(long)]
    children: bool,
    /// Propose columns alone (`doc = false`), for all that was seen: whole documents are not kept
    #[arg(long)]
    no_doc: bool,
}

impl InitArgs {
    /// A file that is added to is the configuration that is read, unless another is given.
    pub fn place(&self, origin: &mut Origin) {
        if !self.add.is_empty() && origin.file.is_none() {
            origin.file.clone_from(&self.out);
        }
    }
}

pub(super) async fn init(settings: &Settings, origin: &Origin, args: &InitArgs) -> u8 {
    proposed(settings, origin, args).await.map_or_else(failed, |()| 0)
}

async fn proposed(settings: &Settings, origin: &Origin, args: &InitArgs) -> Result<(), Unable> {
    if let Some(file) = args.out.as_ref().filter(|file| file.exists() && args.add.is_empty())
        && !args.force
    {
        let message = format!("{} is there already", file.display());
        return Err(Slip::new(message, "name another, or replace it with --force").into());
    }
    let followed = if args.add.is_empty() { Followed::default() } else { Followed::of(settings) };
    followed.judge(&args.add)?;
    let survey = survey(settings, zones(&args.zone)?).await?;
    let names = [args.add.as_slice(), &args.collection].concat();
    let chosen = if names.is_empty() && !args.all && !args.json && is_attended() {
        ask(&survey)?
    } else {
        let again = if args.add.is_empty() {
            "name another with --collection"
        } else {
            "name another with --add"
        };
        survey.choose(&names, again)?
    };
    let bar = bar(chosen.len());
    let wishes = Wishes { children: args.shape.children, doc: !args.shape.no_doc };
    let proposals = survey.propose(&chosen, &followed, wishes, || bar.inc(1)).await?;
    bar.finish_and_clear();
    if args.json {
        let aside = proposals.aside.iter();
        let aside: Vec<_> =
            aside.map(|(name, why)| serde_json::json!({ "name": name, "why": why })).collect();
        print_json(&serde_json::json!({
            "database": survey.database(),
            "collections": survey.collections,
            "streams": proposals.streams,
            "aside": aside,
        }));
    }
    written(settings, origin, args, survey.database(), &proposals)
}

fn written(
    settings: &Settings,
    origin: &Origin,
    args: &InitArgs,
    database: &str,
    proposals: &Proposals,
) -> Result<(), Unable> {
    let streams = &proposals.streams;
    let text = if args.add.is_empty() {
        whole(settings, database, streams, &proposals.aside)
    } else {
        streams.iter().map(block).collect()
    };
    let Some(file) = &args.out else {
        if !args.json {
            print(&text);
        }
        return Ok(());
    };
    if args.add.is_empty() {
        create(file, &text, args.force, origin)?;
    } else {
        append(file, &text, origin)?;
    }
    if !args.json {
        let columns: usize = streams.iter().map(|stream| stream.columns.len()).sum();
        let (file, number) = (file.display(), streams.len());
        let children = children(streams);
        let schema = if args.add.is_empty() {
            format!("{SCHEMA_FILE} beside it: editors complete it by that\n")
        } else {
            String::new()
        };
        print(&format!(
            "{file}: {number} stream(s), {columns} column(s){children}\n{schema}next: look at \
             the lines with a !, then `tidemark check --config {file}`\n"
        ));
    }
    Ok(())
}

/// How many tables of arrays there are, if any.
fn children(streams: &[StreamProposal]) -> String {
    let all = || streams.iter().flat_map(|stream| &stream.children);
    let columns: usize = all().map(|child| child.columns.len()).sum();
    match all().count() {
        0 => String::new(),
        number => format!("; {number} table(s) of arrays, {columns} column(s)"),
    }
}

fn zones(names: &[String]) -> Result<Vec<Zone>, Slip> {
    let unknown = |name: &String| {
        let hint = "name one of the IANA database, such as --zone Europe/London";
        Slip::new(format!("there is no zone {name:?}"), hint)
    };
    names.iter().map(|name| Zone::parse(name).ok_or_else(|| unknown(name))).collect()
}

fn is_attended() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Draws nothing where there is no terminal.
fn bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(length).unwrap_or_default());
    let style = ProgressStyle::with_template("looking {wide_bar} {human_pos}/{human_len} {eta}");
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

/// Asks until the answer can be meant.
fn ask(survey: &Survey) -> Result<Vec<&Surveyed>, Slip> {
    let told = |text: &str| {
        let _ = std::io::stderr().write_all(text.as_bytes());
    };
    let offered = survey.choose(&[], "")?;
    told(&render::collections(&survey.collections));
    loop {
        told("follow which? numbers (1,3-5), or all [all]: ");
        let mut line = String::new();
        if std::io::stdin().read_line(&mut line).unwrap_or_default() == 0 {
            return Err(Slip::new("nothing was chosen", "--all or --collection NAME says it"));
        }
        match places(&line, offered.len()) {
            Ok(places) => {
                let chosen = places.into_iter().filter_map(|place| offered.get(place).copied());
                return Ok(chosen.collect());
            }
            Err(why) => complain(&why),
        }
    }
}

/// The places that an answer such as `1, 3-5` names, counted from 0.
fn places(answer: &str, length: usize) -> Result<Vec<usize>, String> {
    let answer = answer.trim();
    if answer.is_empty() || answer.eq_ignore_ascii_case("all") {
        return Ok((0..length).collect());
    }
    let mut places = Vec::new();
    for part in answer.split([',', ' ']).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>(), last.parse::<usize>());
        match (first, last) {
            (Ok(first), Ok(last)) if 1 <= first && first <= last && last <= length => {
                places.extend(first - 1..last);
            }
            _ => return Err(format!("{part:?} is not a number from 1 to {length}")),
        }
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn an_answer_names_places() {
        for (answer, expected) in [
            ("", vec![0, 1, 2, 3, 4]),
            ("ALL\n", vec![0, 1, 2, 3, 4]),
            ("2\n", vec![1]),
            (" 1, 3-5 ,4", vec![0, 2, 3, 4]),
        ] {
            assert_eq!(places(answer, 5), Ok(expected), "{answer}");
        }
        for answer in ["0", "6", "3-2", "orders", "1-", "-"] {
            assert!(places(answer, 5).is_err(), "{answer}");
        }
    }
}
