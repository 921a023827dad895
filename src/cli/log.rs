//! The command that has running processes log otherwise for a while.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::console::{Act, answer, ends, failed, only_shown_yet, show};
use crate::model::shown::shown;
use crate::ops::command::ask_all;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;
use crate::telemetry;

/// What debugs for longer is configured.
const LENGTH_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    verb: LogVerb,
}

#[derive(Debug, Subcommand)]
enum LogVerb {
    /// Filter the log otherwise for a while, in every process of the service; then as configured
    Level {
        /// As log.filter: a level (debug), or of its parts (`info,tidemark::source=trace`)
        #[arg(value_parser = telemetry::level_filter)]
        filter: String,
        /// For how long (1h), a day at most
        #[arg(long = "for", value_name = "DURATION", value_parser = length)]
        length: Duration,
        /// Why; recorded with who and when
        #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
        #[arg(required_if_eq("execute", "true"))]
        reason: Option<String>,
        #[command(flatten)]
        act: Act,
    },
}

fn length(text: &str) -> Result<Duration, String> {
    let length = crate::settings::parse_duration(text)?;
    if length.is_zero() || length > LENGTH_MAX {
        return Err("it must be more than nothing and a day at most".to_owned());
    }
    Ok(length)
}

#[derive(Debug, Serialize)]
struct LevelPreview {
    filter: String,
    until: DateTime<Utc>,
    configured: String,
}

pub(super) async fn log(settings: &Settings, args: LogArgs) -> u8 {
    let LogVerb::Level { filter, length, reason, act } = args.verb;
    level(settings, filter, length, reason.as_deref(), &act).await.unwrap_or_else(failed)
}

async fn level(
    settings: &Settings,
    filter: String,
    length: Duration,
    reason: Option<&str>,
    act: &Act,
) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    let until = Utc::now() + TimeDelta::from_std(length).unwrap_or(TimeDelta::days(1));
    if !act.execute {
        let preview = LevelPreview { filter, until, configured: settings.log.filter.clone() };
        show(act.json, &preview, |preview| told(settings, preview));
        return Ok(only_shown_yet(reason));
    }
    let arguments = json!({ "filter": filter, "until": until });
    let asked = ask_all(&state, Verb::LogLevel, &arguments, reason.unwrap_or_default()).await?;
    Ok(answer(&asked, act.json))
}

fn told(settings: &Settings, preview: &LevelPreview) -> String {
    let until = preview.until.format("%Y-%m-%d %H:%M:%S UTC");
    format!(
        "each process of {} would log by {} until {until}; then as it is configured, here {}\n",
        settings.owner(),
        shown(&preview.filter),
        shown(&preview.configured),
    )
}
