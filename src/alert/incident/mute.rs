//! What is not told for a while, though it is recorded and shown: what a person muted, and windows
//! of maintenance. Pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::alert::incident::life::Key;
use crate::error::Code;
use crate::settings::Maintenance;
use crate::state::{Command, Verb};
use crate::status::MuteReport;

/// The word for incidents of every code.
pub const EVERY_CODE: &str = "all";

/// What a person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mute {
    /// `None`: of every code.
    pub code: Option<Code>,
    /// `None`: of all streams, and what is of none.
    pub stream: Option<String>,
    pub until: DateTime<Utc>,
    pub by: String,
    pub reason: String,
}

impl Mute {
    /// What a recorded request says; `None` of one that ends a mute, or of another release.
    pub fn of(command: &Command) -> Option<Self> {
        if Verb::parse(&command.verb) != Some(Verb::IncidentMute) {
            return None;
        }
        let word = |name| command.arguments.get(name).and_then(serde_json::Value::as_str);
        let code = match word("code")? {
            EVERY_CODE => None,
            code => Some(Code::parse(code)?),
        };
        Some(Self {
            code,
            stream: word("stream").map(str::to_owned),
            until: DateTime::parse_from_rfc3339(word("until")?).ok()?.to_utc(),
            by: word("by")?.to_owned(),
            reason: command.reason.clone(),
        })
    }

    /// Whether it is of such incidents.
    pub fn covers(&self, key: &Key) -> bool {
        self.code.is_none_or(|code| code == key.code)
            && (self.stream.is_none() || self.stream == key.stream)
    }

    pub fn report(&self) -> MuteReport {
        MuteReport {
            code: self.code.map(|code| code.name().to_owned()),
            stream: self.stream.clone(),
            until: self.until,
            by: self.by.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// All that keeps incidents from being told.
#[derive(Debug, Clone, Default)]
pub struct Mutes {
    muted: Vec<Mute>,
    windows: Arc<[Maintenance]>,
}

impl Mutes {
    pub fn new(windows: &[Maintenance], said: &[Command]) -> Self {
        Self { muted: said.iter().filter_map(Mute::of).collect(), windows: windows.into() }
    }

    /// The same windows, with what people say by now.
    #[must_use]
    pub fn hearing(&self, said: &[Command]) -> Self {
        let windows = Arc::clone(&self.windows);
        Self { muted: said.iter().filter_map(Mute::of).collect(), windows }
    }

    /// Until when, by whom and why such incidents are not told; of several, what lasts longest.
    pub fn of(&self, key: &Key, now: DateTime<Utc>) -> Option<MuteReport> {
        let muted = self.muted.iter().filter(|mute| mute.covers(key) && mute.until > now);
        let is_its =
            |mute: &MuteReport| mute.code.as_deref().is_none_or(|code| code == key.code.name());
        let windows = self.windows.iter().flat_map(|window| in_force(window, now)).filter(is_its);
        muted.map(Mute::report).chain(windows).max_by_key(|mute| mute.until)
    }

    /// All that holds now.
    pub fn in_force(&self, now: DateTime<Utc>) -> Vec<MuteReport> {
        let muted = self.muted.iter().filter(|mute| mute.until > now).map(Mute::report);
        muted.chain(self.windows.iter().flat_map(|window| in_force(window, now))).collect()
    }
}

/// A window that holds, one report a code.
fn in_force(window: &Maintenance, now: DateTime<Utc>) -> Vec<MuteReport> {
    let Some(until) = window.holds_until(now) else { return Vec::new() };
    let report = |code: Option<Code>| MuteReport {
        code: code.map(|code| code.name().to_owned()),
        stream: None,
        until,
        by: "alert.maintenance".to_owned(),
        reason: window.name.clone(),
    };
    if window.codes.is_empty() {
        vec![report(None)]
    } else {
        window.codes.iter().map(|code| report(Some(*code))).collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::Window;

    fn now() -> DateTime<Utc> {
        "2026-11-21T05:29:00Z".parse().unwrap()
    }

    fn said(verb: Verb, arguments: Value) -> Command {
        Command {
            id: 1,
            verb: verb.name().to_owned(),
            stream: String::new(),
            arguments,
            actor: "mary@ward".to_owned(),
            db_user: None,
            db_address: None,
            reason: "oplog is moved".to_owned(),
            at: now(),
            done_at: Some(now()),
            outcome: None,
            result: None,
            attempts: 0,
        }
    }

    fn key(code: Code, stream: Option<&str>) -> Key {
        Key { code, stream: stream.map(str::to_owned) }
    }

    #[test]
    fn a_mute_is_of_a_code_or_all_and_of_a_stream_or_all_until_its_end() {
        let until = now() + TimeDelta::hours(1);
        let mute = |code: &str, stream: Option<&str>| {
            let arguments = json!({ "code": code, "stream": stream, "until": until, "by": "Mary" });
            Mutes::new(&[], &[said(Verb::IncidentMute, arguments)])
        };
        let lost = key(Code::HistoryLost, Some("doctor"));
        let told = mute("history_lost", None).of(&lost, now()).unwrap();
        assert_eq!((&*told.by, &*told.reason, told.until), ("Mary", "oplog is moved", until));
        assert!(mute("all", None).of(&key(Code::CrashLoop, None), now()).is_some());
        assert!(mute("all", Some("doctor")).of(&lost, now()).is_some());
        for other in [mute("stalled", None), mute("history_lost", Some("x")), mute("newer", None)] {
            assert_eq!(other.of(&lost, now()), None);
        }
        assert_eq!(mute("all", Some("doctor")).of(&key(Code::CrashLoop, None), now()), None);
        assert_eq!(mute("all", None).of(&lost, until), None, "it has ended");
        assert!(mute("all", None).in_force(until).is_empty());
        let ended = json!({ "code": "all", "stream": null });
        assert!(Mutes::new(&[], &[said(Verb::IncidentUnmute, ended)]).in_force(now()).is_empty());
    }

    #[test]
    fn a_window_mutes_its_codes_and_of_several_the_longest_counts() {
        let window = |name: &str, hours, codes: &[Code]| Maintenance {
            name: name.to_owned(),
            when: Window::Once { from: now(), until: now() + TimeDelta::hours(hours) },
            codes: codes.to_vec(),
        };
        let windows =
            [window("short", 1, &[]), window("long", 2, &[Code::Stalled, Code::TargetSlow])];
        let mutes = Mutes::new(&windows, &[]);
        let by = |code| mutes.of(&key(code, None), now()).map(|mute| mute.reason);
        assert_eq!(by(Code::Stalled).as_deref(), Some("long"));
        assert_eq!(by(Code::HistoryLost).as_deref(), Some("short"));
        assert_eq!(mutes.of(&key(Code::HistoryLost, None), now() + TimeDelta::hours(1)), None);
        assert_eq!(mutes.in_force(now()).len(), 3, "a line a code");
    }
}
