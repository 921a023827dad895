//! The command that has running processes take a changed configuration.

use clap::Args;

use super::console::{Act, answer, ends, failed, only_shown, print, print_json};
use crate::ops::command::ask;
use crate::ops::slip::Unable;
use crate::settings::Settings;
use crate::state::Verb;

#[derive(Debug, Args)]
pub(super) struct ReloadArgs {
    /// Why; recorded with who and when
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    act: Act,
}

pub(super) async fn reload(settings: &Settings, args: &ReloadArgs) -> u8 {
    asked(settings, args).await.unwrap_or_else(failed)
}

async fn asked(settings: &Settings, args: &ReloadArgs) -> Result<u8, Unable> {
    let (_, state) = ends(settings)?;
    if !args.act.execute {
        let (streams, groups) = (settings.streams.len(), settings.groups.len());
        if args.act.json {
            print_json(&serde_json::json!({ "streams": streams, "groups": groups }));
        } else {
            let owner = settings.owner();
            print(&format!(
                "the configuration as it is read here is valid: {streams} stream(s) in {groups} \
                 group(s)\neach process of {owner} would read its own, and take it if it is valid \
                 and both ends answer\n"
            ));
        }
        return Ok(only_shown());
    }
    let asked = ask(&state, Verb::Reload, "", &serde_json::json!({}), &args.reason).await?;
    Ok(answer(&asked, args.act.json))
}
