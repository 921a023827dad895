//! The commands that stop one stream for a while and let it go on.

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;

use super::console::{Act, answer, ends, failed, only_shown, show};
use crate::model::shown::shown;
use crate::ops;
use crate::ops::command::ask;
use crate::ops::pause::PausePreview;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    /// The stream to stop
    stream: String,
    /// Until when: a time (2026-11-22T18:00:00Z) or a length (2h), within seven days
    #[arg(long, value_name = "TIME", value_parser = ops::deadline::within_a_week)]
    until: DateTime<Utc>,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    reason: String,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    /// The stream to let go on
    stream: String,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    reason: String,
    #[command(flatten)]
    act: Act,
}

pub(super) async fn pause(settings: &Settings, args: &PauseArgs) -> u8 {
    paused(settings, args).await.unwrap_or_else(failed)
}

async fn paused(settings: &Settings, args: &PauseArgs) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let preview = ops::pause::pause(settings, &state, &args.stream, args.until).await?;
    if !args.act.execute {
        show(args.act.json, &preview, told);
        return Ok(only_shown());
    }
    let arguments = json!({ "until": args.until });
    let asked = ask(&state, Verb::Pause, &args.stream, &arguments, &args.reason).await?;
    Ok(answer(&asked, args.act.json))
}

pub(super) async fn resume(settings: &Settings, args: &ResumeArgs) -> u8 {
    resumed(settings, args).await.unwrap_or_else(failed)
}

async fn resumed(settings: &Settings, args: &ResumeArgs) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let preview = ops::pause::resume(settings, &state, &args.stream).await?;
    if !args.act.execute {
        show(args.act.json, &preview, told);
        return Ok(only_shown());
    }
    let asked = ask(&state, Verb::Resume, &args.stream, &json!({}), &args.reason).await?;
    Ok(answer(&asked, args.act.json))
}

fn told(preview: &PausePreview) -> String {
    let (stream, group) = (shown(&preview.stream), shown(&preview.group));
    let paused = preview.paused.as_deref().map(shown);
    let Some(until) = preview.until else {
        return format!(
            "stream {stream} is {}\n  it would go on now: its table is repaired by a resync, which \
             also compares contents\n",
            paused.unwrap_or_default()
        );
    };
    let mut lines = vec![
        format!("pause of stream {stream}, now {}", shown(&preview.phase)),
        format!("  until        {}", until.format("%Y-%m-%d %H:%M:%S UTC")),
        format!("  group        {group} goes on without it"),
        "  table        stays as it is; when it is over, a resync repairs what was missed".into(),
    ];
    lines.extend(preview.walk.map(|id| format!("  under way    resync {id} would end, cancelled")));
    lines.extend(paused.map(|paused| format!("  in its place {paused}")));
    lines.push(String::new());
    lines.join("\n")
}
