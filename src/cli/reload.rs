//! The command that has running processes take a changed configuration.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use super::console::{Act, answer, complain, ends, exit, failed, only_shown_yet, show};
use crate::model::shown::shown;
use crate::ops::check::{Finding, unfit};
use crate::ops::command::ask_all;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;
use crate::supervisor::FIXED_KEYS;

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    #[arg(required_if_eq("execute", "true"))]
    reason: Option<String>,
    #[command(flatten)]
    act: Act,
}

pub(super) async fn reload(settings: &Settings, args: &ReloadArgs) -> u8 {
    asked(settings, args).await.unwrap_or_else(failed)
}

/// What a process would find of the configuration that is read here.
#[derive(Debug, Serialize)]
struct ReloadPreview {
    streams: usize,
    groups: usize,
    /// Why it would be refused; of streams, by a process that follows them otherwise now.
    refused: Vec<Finding>,
    /// Who would read it; `None` where Postgres does not answer.
    processes: Option<Vec<String>>,
}

async fn asked(settings: &Settings, args: &ReloadArgs) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    if !args.act.execute {
        let streams: Vec<_> = settings.streams.iter().collect();
        let preview = ReloadPreview {
            streams: streams.len(),
            groups: settings.groups.len(),
            refused: unfit(settings, &streams).await,
            processes: state.living_processes().await.ok(),
        };
        show(args.act.json, &preview, |preview| told(settings, preview));
        let is_refused = !preview.refused.is_empty();
        let reason = args.reason.as_deref();
        return Ok(if is_refused { would_be_refused() } else { only_shown_yet(reason) });
    }
    let asked = ask_all(
        &state,
        Verb::Reload,
        &serde_json::json!({}),
        args.reason.as_deref().unwrap_or_default(),
    )
    .await?;
    Ok(answer(&asked, args.act.json))
}

fn would_be_refused() -> u8 {
    complain("nothing was changed, and it would be refused; `tidemark check` says all");
    exit::FAILED
}

fn told(settings: &Settings, preview: &ReloadPreview) -> String {
    let ReloadPreview { streams, groups, .. } = preview;
    let (owner, fixed) = (settings.owner(), FIXED_KEYS.join(", "));
    let mut told = format!(
        "the configuration as it is read here has {streams} stream(s) in {groups} group(s)\neach \
         process of {owner} would read its own, and take it if it is valid, both ends answer under \
         it, and streams that it adds or changes fit their tables; {fixed} must be what the \
         process runs with\n"
    );
    match &preview.processes {
        Some(running) if running.is_empty() => {
            let _ = writeln!(told, "no process of {owner} runs: nobody would take it");
        }
        Some(running) => {
            let _ = writeln!(told, "running now: {}", shown(&running.join(", ")));
        }
        None => {}
    }
    for finding in &preview.refused {
        let _ = writeln!(told, "refused: {}", shown(&finding.to_string()));
    }
    told
}
