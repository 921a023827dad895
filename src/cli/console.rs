//! What every command shares: both ends, exit codes, and how an answer gets to the terminal.

use std::io::Write as _;

use clap::Args;
use serde::Serialize;
use tokio::runtime::Runtime;

use super::render;
use crate::error::Fault;
use crate::model::shown::{shown_json, shown_lines};
use crate::ops::command::Asked;
use crate::ops::slip::Unable;
use crate::postgres::Target;
use crate::settings::{Problems, Settings};
use crate::state::{StateTables, Verb, is_too_old};

/// Exit codes beside 0 and those of `status`.
pub mod exit {
    /// Failed, or differences found.
    pub const FAILED: u8 = 1;
    /// A dependency is down.
    pub const UNAVAILABLE: u8 = 69;
    /// The configuration is wrong, or the release for what it finds.
    /// The same may be had later.
    pub const TRY_AGAIN: u8 = 75;
    pub const CONFIGURATION: u8 = 78;
}

#[derive(Debug, Args)]
pub(super) struct Act {
    /// Do it; without this, only say what would be done
    #[arg(long)]
    pub execute: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why something is asked for, as it is recorded.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("say why, in a few words".to_owned()) } else { Ok(text.to_owned()) }
}

pub(super) fn runtime() -> Option<Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| complain(&format!("no runtime could be started: {error}"))).ok()
}

/// The target, and tidemark's own tables in it.
pub(super) fn ends(settings: &Settings) -> Result<(Target, StateTables), Fault> {
    let target = Target::new(settings)?;
    let state = state(settings, &target);
    Ok((target, state))
}

/// tidemark's own tables in a target.
pub(super) fn state(settings: &Settings, target: &Target) -> StateTables {
    StateTables::new(target.clone(), target.pool(1), &settings.target.state_schema)
}

pub(super) fn failed(why: impl Into<Unable>) -> u8 {
    let why = why.into();
    complain(&format!("{why}; {}", next_step(&why)));
    match &why {
        Unable::Fault(fault) if is_too_old(fault) => exit::CONFIGURATION,
        _ if why.may_retry() => exit::UNAVAILABLE,
        _ => exit::FAILED,
    }
}

/// What to do about an error, which ends with what can be typed: a command or an option.
pub(super) fn next_step(why: &Unable) -> String {
    let hint = why.hint();
    if hint.contains("`tidemark ") || hint.contains("--") {
        return hint.to_owned();
    }
    let step = match why {
        Unable::Slip(_) => "`tidemark help` lists what can be asked",
        Unable::Fault(_) => "`tidemark check` says what is wrong with either end",
    };
    if hint.is_empty() { step.to_owned() } else { format!("{hint}; {step}") }
}

/// The configuration is not valid, and all that is wrong with it was found.
pub(super) fn misconfigured(problems: &Problems) -> u8 {
    let is_no_file = problems.0.iter().all(|problem| problem.layer == "--config");
    let step = if is_no_file {
        "name a configuration that can be read: --config FILE"
    } else {
        "mend these keys; `tidemark check --offline` says whether all is well then"
    };
    complain(&format!("{problems}\n  {step}"));
    exit::CONFIGURATION
}

pub(super) fn print_json(value: &(impl serde::Serialize + ?Sized)) {
    print(&shown_json(&format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())));
}

/// To standard output; a reader that went away is no error. Nothing gets to a terminal that it
/// would obey.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().write_all(shown_lines(text).as_bytes());
}

pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "tidemark: {}", shown_lines(text));
}

/// A report, for a script or for a person.
pub(super) fn show<T: Serialize + ?Sized>(
    json: bool,
    report: &T,
    table: impl FnOnce(&T) -> String,
) {
    if json {
        print_json(report);
    } else {
        print(&table(report));
    }
}

/// A preview changes nothing, and says how to go on.
pub(super) fn only_shown() -> u8 {
    complain("nothing was changed; add --execute to do it");
    0
}

/// The same where a reason is wanted only then.
pub(super) fn only_shown_yet(reason: Option<&str>) -> u8 {
    if reason.is_some() {
        return only_shown();
    }
    complain("nothing was changed; add --reason TEXT --execute to do it");
    0
}

pub(super) fn answer(asked: &Asked, json: bool) -> u8 {
    if json {
        print_json(asked);
    } else {
        print(&render::asked(asked));
    }
    let (is_refused, late) = (asked.refused(), !asked.unanswered.is_empty());
    if is_refused && !json {
        complain(&match asked.stream.as_str() {
            "" if asked.verb == Verb::Reload => {
                "who refused goes on as before: mend what it reads, where it runs; `tidemark check \
                 --offline` says whether all is well then"
                    .to_owned()
            }
            "" => "`tidemark status` says how things are".to_owned(),
            stream => format!("`tidemark status --stream {stream}` says how things are"),
        });
    }
    if asked.is_done_by_some() && !json {
        complain("the others have taken it: not all run under the same any more");
    }
    if late && asked.outcome.is_some() && !json {
        let who = shown_lines(&asked.unanswered.join(", "));
        complain(&format!("not answered yet by {who}: `tidemark reload` shows which run"));
    }
    match (is_refused, late && asked.outcome.is_some()) {
        (true, _) => exit::FAILED,
        (false, true) => exit::TRY_AGAIN,
        (false, false) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Code};
    use crate::ops::slip::Slip;

    #[test]
    fn what_to_do_about_an_error_ends_with_what_can_be_typed() {
        let slip = |hint| next_step(&Slip::new("x", hint).into());
        let fault = |hint| {
            next_step(&Fault::new(Class::Transient, Code::SourceUnreachable, "x", hint).into())
        };
        assert_eq!(slip("name another with --out"), "name another with --out");
        assert_eq!(slip(""), "`tidemark help` lists what can be asked");
        assert_eq!(
            fault("check the password"),
            "check the password; `tidemark check` says what is wrong with either end"
        );
        assert_eq!(fault("`tidemark migrate` makes it"), "`tidemark migrate` makes it");
    }
}
