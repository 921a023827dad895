//! `tidemark explain`: a document and its row, side by side.

use clap::Args;

use super::console::{ends, failed, show};
use super::render;
use crate::ops::explain::{Explanation, explain as look};
use crate::ops::slip::Unable;
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The stream that the document is of
    stream: String,
    /// The document, as the table's column id has it
    id: String,
    /// Show what document and row hold, not only types and sizes
    #[arg(long)]
    show_values: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn explain(settings: &Settings, args: &ExplainArgs) -> u8 {
    match look_at(settings, args).await {
        Ok(explanation) => {
            show(args.json, &explanation, render::explanation);
            0
        }
        Err(why) => failed(why),
    }
}

async fn look_at(settings: &Settings, args: &ExplainArgs) -> Result<Explanation, Unable> {
    let (target, state) = ends(settings)?;
    let ExplainArgs { stream, id, show_values, .. } = args;
    look(settings, &target, &state, stream, id, *show_values).await
}
