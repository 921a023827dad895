//! The commands about incidents and the channels they are told to.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};

use super::console::{complain, ends, exit, failed, print, print_json, show};
use super::mute::{self, MuteArgs, Muting, UnmuteArgs};
use super::render;
use crate::alert::Store;
use crate::ops;
use crate::ops::slip::Unable;
use crate::settings::Settings;

#[derive(Debug, Args)]
pub(super) struct IncidentArgs {
    #[command(subcommand)]
    verb: IncidentVerb,
}

#[derive(Debug, Subcommand)]
enum IncidentVerb {
    /// Open incidents, then the latest of the past
    List {
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// One incident, whole
    Show {
        /// The incident, as `incident list` numbers it
        id: i64,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Take an incident on: no reminders until then
    Ack {
        /// The incident, as `incident list` numbers it
        id: i64,
        /// Who takes it on
        #[arg(long, value_name = "NAME")]
        by: String,
        /// Until when: a time (2026-11-22T18:00:00Z) or a length (4h), within seven days
        #[arg(
            long,
            value_name = "TIME",
            value_parser = ops::incident::until,
            required_unless_present = "forever"
        )]
        until: Option<DateTime<Utc>>,
        /// Until it is over, however long that is: nobody is reminded of it
        #[arg(long, conflicts_with = "until")]
        forever: bool,
    },
    /// Tell nobody of such incidents until then; they are recorded and shown
    Mute(MuteArgs),
    /// Tell of them again
    Unmute(UnmuteArgs),
}

#[derive(Debug, Args)]
pub(super) struct AlertArgs {
    #[command(subcommand)]
    verb: AlertVerb,
}

#[derive(Debug, Subcommand)]
enum AlertVerb {
    /// Send one test incident, open and resolve, through every configured channel
    Test {
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn incident(settings: &Settings, args: IncidentArgs) -> u8 {
    let (store, state) = match ends(settings) {
        Ok((target, state)) => (Store::new(settings, &target), state),
        Err(fault) => return failed(fault),
    };
    let muting = Muting { settings, state: &state, store: &store };
    obey(&muting, args.verb).await.unwrap_or_else(failed)
}

async fn obey(muting: &Muting<'_>, verb: IncidentVerb) -> Result<u8, Unable> {
    let Muting { settings, state, store } = *muting;
    match verb {
        IncidentVerb::List { json } => {
            let mutes = ops::mute::mutes(settings, state).await?;
            let list = ops::incident::list(store, &mutes).await?;
            show(json, list.as_slice(), |list| {
                let muted = mute::mutes(&mutes.in_force(Utc::now()));
                format!("{}{muted}", render::incidents(list))
            });
        }
        IncidentVerb::Show { id, json } => {
            let mutes = ops::mute::mutes(settings, state).await?;
            let shown = ops::incident::show(store, &mutes, id).await?;
            if json { print_json(&shown) } else { print(&render::fields(&shown)) }
        }
        IncidentVerb::Ack { id, by, until, .. } => {
            let ack = ops::incident::acknowledge(store, id, &by, until).await?;
            print(&render::acked(id, &ack));
        }
        IncidentVerb::Mute(args) => return muting.mute(&args).await,
        IncidentVerb::Unmute(args) => return muting.unmute(&args).await,
    }
    Ok(0)
}

pub(super) async fn alert(settings: &Settings, args: &AlertArgs) -> u8 {
    let AlertVerb::Test { json } = args.verb;
    let tried = ops::alert::test(settings).await;
    show(json, tried.as_slice(), render::tried);
    if tried.iter().any(|one| !one.ok) && !json {
        complain("mend what it says under [alert]; `tidemark alert test` tries again");
    }
    if tried.is_empty() || tried.iter().any(|one| !one.ok) { exit::FAILED } else { 0 }
}
