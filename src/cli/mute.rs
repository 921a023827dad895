//! The commands that keep incidents from being told for a while.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use clap::Args;

use super::console::{Act, only_shown, print, print_json, show};
use crate::alert::Store;
use crate::model::shown::shown;
use crate::ops;
use crate::ops::mute::MutePreview;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::StateTables;
use crate::status::MuteReport;

#[derive(Debug, Args)]
pub(super) struct MuteArgs {
    /// A code of docs/runbook.md, or all
    #[arg(value_parser = ops::mute::code)]
    code: String,
    /// Of this stream, or group, only
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Until when: a time (2026-11-22T18:00:00Z) or a length (2h), within seven days
    #[arg(long, value_name = "TIME", value_parser = ops::deadline::within_a_week)]
    until: DateTime<Utc>,
    /// Who looks after it meanwhile
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    reason: String,
    #[command(flatten)]
    act: Act,
}

#[derive(Debug, Args)]
pub(super) struct UnmuteArgs {
    /// The code that was muted, or all
    #[arg(value_parser = ops::mute::code)]
    code: String,
    /// The stream, or group, that was named
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", value_parser = super::console::reason)]
    reason: String,
    #[command(flatten)]
    act: Act,
}

/// Both ends of what is muted.
pub(super) struct Muting<'a> {
    pub settings: &'a Settings,
    pub state: &'a StateTables,
    pub store: &'a Store,
}

impl Muting<'_> {
    pub async fn mute(&self, args: &MuteArgs) -> Result<u8, Unable> {
        let of = (&*args.code, args.stream.as_deref());
        self.obey(of, Some(args.until), &args.by, &args.reason, &args.act).await
    }

    pub async fn unmute(&self, args: &UnmuteArgs) -> Result<u8, Unable> {
        let of = (&*args.code, args.stream.as_deref());
        self.obey(of, None, "", &args.reason, &args.act).await
    }

    async fn obey(
        &self,
        of: (&str, Option<&str>),
        until: Option<DateTime<Utc>>,
        by: &str,
        reason: &str,
        act: &Act,
    ) -> Result<u8, Unable> {
        let preview = ops::mute::preview(self.settings, self.state, self.store, of, until).await?;
        if !act.execute {
            show(act.json, &preview, told);
            return Ok(only_shown());
        }
        let done = ops::mute::execute(self.state, &preview, by, reason).await?;
        if act.json {
            print_json(&done);
        } else {
            let result = shown(done.result.as_deref().unwrap_or_default());
            print(&format!("command {}: {result}\n", done.id));
        }
        Ok(0)
    }
}

fn told(preview: &MutePreview) -> String {
    let stream = preview
        .stream
        .as_deref()
        .map_or_else(|| "of whatever stream".to_owned(), |stream| format!("of {}", shown(stream)));
    let code = shown(&preview.code);
    let ids: Vec<String> = preview.open.iter().map(ToString::to_string).collect();
    let open = if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    let mut out = match preview.until {
        Some(until) => format!(
            "{code} {stream} would not be told until {}\n  recorded, shown, and told then if it \
             is still open; the heartbeat knows nothing of it\n",
            until.format("%Y-%m-%d %H:%M:%S UTC")
        ),
        None => format!("{code} {stream} would be told again from now on\n"),
    };
    let _ = writeln!(out, "  open now     {open}");
    if let Some(now) = &preview.now {
        let _ = write!(out, "  in its place {}", line(now));
    }
    out
}

/// What is not told, for people: nothing where all is.
pub(super) fn mutes(list: &[MuteReport]) -> String {
    list.iter().fold(String::new(), |out, mute| format!("{out}muted: {}", line(mute)))
}

fn line(mute: &MuteReport) -> String {
    let of = mute.stream.as_deref().map_or_else(String::new, |of| format!(" of {}", shown(of)));
    format!(
        "{}{of} until {} by {}: {}\n",
        shown(mute.code.as_deref().unwrap_or("all")),
        mute.until.format("%Y-%m-%d %H:%M:%S UTC"),
        shown(&mute.by),
        shown(&mute.reason)
    )
}
