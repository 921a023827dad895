//! `tidemark compare`: what differs between source and table, and the resync that mends it.

use clap::Args;
use serde::Serialize;

use super::console::{answer, complain, ends, exit, failed, only_shown, print, print_json};
use super::render;
use crate::ops;
use crate::ops::command::{Asked, ask};
use crate::ops::compare::Compared;
use crate::ops::left_out::refuse_left_out;
use crate::ops::resync::{Preview, own_stream, preview};
use crate::ops::resync_part::{self, PartPreview};
use crate::ops::slip::Unable;
use crate::postgres::Target;
use crate::settings::Settings;
use crate::state::{StateTables, Verb};

#[derive(Debug, Args)]
pub(super) struct CompareArgs {
    /// The stream to compare
    stream: String,
    /// Compare this many documents picked at random, instead of all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// Say what would repair what differs
    #[arg(long)]
    repair: bool,
    /// Repair it; without this, only say what would be done
    #[arg(long, requires = "repair", requires = "reason")]
    execute: bool,
    /// Why the repair; recorded with who and when
    #[arg(long, value_name = "TEXT", requires = "repair")]
    #[arg(value_parser = super::console::reason)]
    reason: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What repairs a table: what differs is read again, or, where that is too much, everything.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Repair {
    Part(PartPreview),
    Resync(Preview),
}

/// What is told of a comparison.
#[derive(Debug, Serialize)]
struct Told<'a> {
    compared: &'a Compared,
    /// What would repair the table, if that was asked and anything differs.
    planned: Option<&'a Repair>,
    /// The request, if one was made.
    repair: Option<&'a Asked>,
}

pub(super) async fn compare(settings: &Settings, args: &CompareArgs) -> u8 {
    let compared = async {
        let (target, state) = ends(settings)?;
        let stream = own_stream(settings, &state, &args.stream).await?;
        if args.repair {
            refuse_left_out(&state, &args.stream).await?;
        }
        let plan = ops::compare::ComparePlan {
            sample: args.sample,
            documents_per_second_max: settings.resync.documents_per_second_max,
        };
        let compared = ops::compare::compare(settings, &target, &state, stream, plan).await?;
        let planned = if args.repair && !compared.is_equal() {
            Some(plan_repair(settings, &target, &state, &compared).await?)
        } else {
            None
        };
        let asked = match (&planned, args.execute) {
            (Some(repair), true) => {
                let reason = args.reason.as_deref().unwrap_or_default();
                Some(request(&state, repair, reason).await?)
            }
            _ => None,
        };
        Ok::<_, Unable>((compared, planned, asked))
    };
    match compared.await {
        Err(fault) => failed(fault),
        Ok((compared, planned, asked)) => {
            tell(args, &compared, planned.as_ref(), asked.as_ref());
            let refused = asked.is_some_and(|asked| asked.refused());
            if compared.is_equal() && !refused { 0 } else { exit::FAILED }
        }
    }
}

async fn plan_repair(
    settings: &Settings,
    target: &Target,
    state: &StateTables,
    compared: &Compared,
) -> Result<Repair, Unable> {
    if let Some(part) = resync_part::of_comparison(settings, target, state, compared).await? {
        return Ok(Repair::Part(part));
    }
    Ok(Repair::Resync(preview(settings, target, state, &compared.stream).await?))
}

async fn request(state: &StateTables, repair: &Repair, reason: &str) -> Result<Asked, Unable> {
    Ok(match repair {
        Repair::Part(part) => resync_part::ask_for(state, part, reason).await?,
        Repair::Resync(whole) => {
            let arguments = serde_json::json!({ "divergence": true });
            ask(state, Verb::Resync, &whole.stream, &arguments, reason).await?
        }
    })
}

fn tell(args: &CompareArgs, compared: &Compared, planned: Option<&Repair>, asked: Option<&Asked>) {
    if args.json {
        print_json(&Told { compared, planned, repair: asked });
        return;
    }
    print(&render::compared(compared));
    match (planned, asked) {
        (_, Some(asked)) => {
            answer(asked, false);
        }
        (Some(Repair::Part(part)), None) => {
            print(&render::part(part));
            only_shown();
        }
        (Some(Repair::Resync(whole)), None) => {
            print(&render::preview(whole));
            only_shown();
        }
        (None, None) if args.repair => {
            complain("there is nothing to repair; `tidemark status` says how things are");
        }
        (None, None) if !compared.is_equal() => {
            complain("nothing was changed; `--repair` says what would repair it");
        }
        (None, None) => {}
    }
}
