//! `tidemark compare`: what differs between source and table, and the resync that mends it.

use clap::Args;

use super::console::{answer, ends, exit, failed, print, print_json};
use super::render;
use crate::ops;
use crate::ops::command::ask;
use crate::ops::resync::own_stream;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;

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

pub(super) async fn compare(settings: &Settings, args: &CompareArgs) -> u8 {
    let compared = async {
        let (target, state) = ends(settings)?;
        let stream = own_stream(settings, &state, &args.stream).await?;
        let plan = ops::compare::ComparePlan {
            sample: args.sample,
            documents_per_second_max: settings.resync.documents_per_second_max,
        };
        let compared = ops::compare::compare(settings, &target, &state, stream, plan).await?;
        let asked = if args.repair && !compared.is_equal() {
            let arguments = serde_json::json!({ "divergence": true });
            Some(ask(&state, Verb::Resync, &args.stream, &arguments, &args.reason).await?)
        } else {
            None
        };
        Ok::<_, Unable>((compared, asked))
    };
    match compared.await {
        Err(fault) => failed(fault),
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
