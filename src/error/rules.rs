//! The one table of rules: what each code means, what tidemark does about it, what a person must
//! do. The status, its page, the command line and every notice say it in these words;
//! docs/runbook.md has the same table. Pure.

use chrono::TimeDelta;

use super::{Code, Severity};

/// How long a cause must last before it is an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingFor {
    /// It opens at once: it is classified already as something that waiting does not mend.
    AtOnce,
    /// `retry.escalate_after`.
    Escalated,
}

/// What an incident is identified by beside its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Stream,
    /// An end that all streams share: one incident, however many streams it stops.
    End,
    Process,
}

#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub code: Code,
    pub severity: Severity,
    pub pending_for: PendingFor,
    pub scope: Scope,
    /// Deeper causes that explain this one.
    pub inhibited_by: &'static [Code],
    /// After the stream's name, in a title.
    pub title: &'static str,
    /// What it means for the data.
    pub means: &'static str,
    /// What tidemark does about it.
    pub doing: &'static str,
    /// What a person must do. `STREAM` and `ID` stand for the stream's name and the resync's id:
    /// see [`Rule::to_do`].
    pub action: &'static str,
}

impl Rule {
    /// What a person must do about it where it is met: commands can be run as they stand.
    pub fn to_do(&self, stream: Option<&str>, resync: Option<i64>) -> String {
        let mut action = self.action.to_owned();
        if let Some(stream) = stream {
            action = action.replace("STREAM", stream);
        }
        if let Some(id) = resync {
            action = action.replace(" ID ", &format!(" {id} "));
        }
        action
    }

    pub const fn lasting(&self, escalate_after: TimeDelta) -> TimeDelta {
        match self.pending_for {
            PendingFor::AtOnce => TimeDelta::zero(),
            PendingFor::Escalated => escalate_after,
        }
    }
}

/// Whatever stops a stream explains that it stands still, is silent, and uses up its history.
const STOPPED: &[Code] = &[
    Code::HistoryLost,
    Code::SourceUnreachable,
    Code::SourceUnauthorised,
    Code::SourceMisconfigured,
    Code::SourceDropped,
    Code::SourceForeign,
    Code::SourceLagging,
    Code::TargetUnreachable,
    Code::TargetFull,
    Code::TargetSchemaMismatch,
    Code::TargetUnauthorised,
    Code::DeadLetterRate,
];

const ENDS: &[Code] = &[
    Code::SourceUnreachable,
    Code::SourceUnauthorised,
    Code::SourceMisconfigured,
    Code::SourceDropped,
    Code::TargetUnreachable,
    Code::TargetFull,
    Code::TargetUnauthorised,
];

const KEEPS: &str = "The table keeps its last state; nothing is lost while the history lasts.";
const TRIES: &str = "It keeps trying, slower and slower, and goes on by itself.";
pub const PROBES: &str =
    "It has stopped writing, looks again at intervals, and goes on by itself once this is mended.";
pub const PARKED: &str = concat!(
    "Its group goes on without it. It looks again at intervals, and repairs the table by ",
    "a resync once this is mended.",
);

use PendingFor::{AtOnce, Escalated};
use Scope::{End, Process, Stream};
use Severity::{Critical, Warning};

const fn rule(
    code: Code,
    severity: Severity,
    pending_for: PendingFor,
    scope: Scope,
    inhibited_by: &'static [Code],
) -> Rule {
    Rule {
        code,
        severity,
        pending_for,
        scope,
        inhibited_by,
        title: "",
        means: "",
        doing: "",
        action: "",
    }
}

impl Rule {
    const fn says(
        self,
        title: &'static str,
        means: &'static str,
        doing: &'static str,
        action: &'static str,
    ) -> Self {
        Self { title, means, doing, action, ..self }
    }
}

/// Every rule, in the order of [`Code::ALL`].
pub const RULES: &[Rule] = &[
    rule(Code::HistoryLost, Critical, AtOnce, Stream, &[]).says(
        "history lost",
        "Changes were missed: rows may be out of date until the repair is done.",
        "It repairs the table by a full walk of the collection and goes on following meanwhile.",
        "Find out why history was lost, then ask for the repair: `tidemark resync STREAM --reason \
         TEXT --execute`.",
    ),
    rule(Code::HistoryExpiring, Warning, Escalated, Stream, STOPPED).says(
        "history is running out",
        "Nothing is lost yet. When the headroom is gone, changes will be missed.",
        "It goes on following.",
        "Find out why the stream lags, or why its position does not move; enlarge the oplog.",
    ),
    rule(Code::SourceUnreachable, Critical, Escalated, End, &[]).says(
        "MongoDB cannot be reached",
        KEEPS,
        TRIES,
        "Check the replica set and the network to it.",
    ),
    rule(Code::SourceUnauthorised, Critical, AtOnce, End, &[]).says(
        "MongoDB refuses access",
        KEEPS,
        PROBES,
        "Correct the user, password or privileges; `tidemark check` proves them.",
    ),
    rule(Code::SourceMisconfigured, Critical, AtOnce, End, &[]).says(
        "MongoDB cannot give change streams",
        KEEPS,
        PROBES,
        "See the reason; `tidemark check` proves the remedy.",
    ),
    rule(Code::SourceDropped, Critical, AtOnce, Stream, &[]).says(
        "the collection was dropped or renamed",
        "The table is left as it was.",
        "It waits for the collection, and repairs the table when it is there again.",
        "Bring the collection back, or take the stream out of the configuration.",
    ),
    rule(Code::SourceForeign, Critical, AtOnce, Stream, &[]).says(
        "the source is another one, or an older one",
        "The table is left as it was: nothing of another source is written into it.",
        PROBES,
        "Point source.uri at the right cluster; if this one is meant: `tidemark source adopt \
         STREAM --reason TEXT --execute`.",
    ),
    rule(Code::SourceSilent, Warning, AtOnce, Stream, STOPPED).says(
        "no change for longer than expected",
        "Either nothing happened, or whatever writes to the collection has stopped.",
        "It goes on following; its position is fresh.",
        "Look at whatever writes to the collection.",
    ),
    rule(Code::SourceLagging, Critical, Escalated, End, &[Code::SourceUnreachable]).says(
        "MongoDB confirms nothing",
        "Changes are written at the source, but no majority of its members has them: the table \
         falls behind.",
        "It waits: what is not confirmed may still be rolled back, and is never written.",
        "Find out which members of the replica set do not replicate: `rs.status()`.",
    ),
    rule(Code::TargetUnreachable, Critical, Escalated, End, &[]).says(
        "Postgres cannot be reached",
        KEEPS,
        TRIES,
        "See the reason: check the Postgres server, the network, a pooler; after a failover, that \
         target.url names the primary.",
    ),
    rule(Code::TargetFull, Critical, AtOnce, End, &[]).says(
        "Postgres has no disk space left",
        KEEPS,
        PROBES,
        "Free disk space on the Postgres server.",
    ),
    rule(Code::TargetSchemaMismatch, Critical, AtOnce, Stream, &[]).says(
        "the table does not fit the configuration",
        KEEPS,
        PROBES,
        "Run `tidemark check`: it says in SQL what to alter. What is only lacking, `tidemark \
         migrate` adds.",
    ),
    rule(Code::TargetUnauthorised, Critical, AtOnce, End, &[]).says(
        "Postgres refuses access",
        KEEPS,
        PROBES,
        "Grant the privileges; `tidemark check` proves them.",
    ),
    rule(Code::TargetRewound, Warning, AtOnce, End, &[]).says(
        "Postgres went back to an earlier state",
        "Nothing is lost: what Postgres had lost is applied again from the source.",
        "It has given up what it remembered and goes on from what Postgres says.",
        "Find out why: a promoted standby that lagged, a crash, a restored backup. Other \
         applications may have lost commits.",
    ),
    rule(Code::TargetSlow, Warning, Escalated, Stream, STOPPED).says(
        "the table is slow to write to",
        "Nothing is lost; the table may fall behind.",
        "It writes smaller and smaller parts, and sets aside a row that does not pass alone.",
        "See what holds the table up: a missing index on a foreign key, a trigger, a lock.",
    ),
    rule(Code::DeadLetters, Warning, AtOnce, Stream, &[Code::DeadLetterRate]).says(
        "events were set aside",
        "These events are not in the table; each is kept whole.",
        "It goes on with the others.",
        "See `tidemark dead-letter list`; mend the mapping or the data, then \
         `tidemark dead-letter retry --all STREAM --reason TEXT --execute`.",
    ),
    rule(Code::DeadLetterRate, Critical, AtOnce, Stream, &[]).says(
        "too many events cannot be stored",
        KEEPS,
        PROBES,
        "Mend the mapping, the table or the data; or set them aside: `tidemark dead-letter accept \
         STREAM --count N --reason TEXT --execute`.",
    ),
    rule(Code::FieldDrift, Warning, AtOnce, Stream, &[]).says(
        "fields differ from the configuration",
        "Whole documents still land in `doc`; the columns named may be empty.",
        "It goes on following.",
        "See which fields in /status; add an alias or change the column.",
    ),
    rule(Code::ResyncHeld, Critical, AtOnce, Stream, &[]).says(
        "a resync waits for a person",
        "Nothing was deleted. Rows that the source does not have are still in the table.",
        "It goes on following and holds the sweep.",
        "Look at the source, then `tidemark resync approve ID --reason TEXT --execute` or \
         `tidemark resync cancel ID --reason TEXT --execute`.",
    ),
    rule(Code::ResyncOverBudget, Critical, AtOnce, Stream, ENDS).says(
        "a resync is not done in time",
        "Part of the table is not repaired yet.",
        "It goes on following.",
        "Find out why it is slow, then `tidemark resync approve ID --reason TEXT --execute` or \
         `tidemark resync cancel ID --reason TEXT --execute`.",
    ),
    rule(Code::ResyncFailed, Warning, Escalated, Stream, STOPPED).says(
        "a resync does not get on",
        "Part of the table is not repaired yet.",
        "It tries again, and goes on following.",
        "See the reason; `tidemark resync list` shows how far it got.",
    ),
    rule(Code::DivergenceFound, Critical, AtOnce, Stream, &[Code::HistoryLost]).says(
        "source and table differ",
        "Some rows are missing, extra or different.",
        "It goes on following.",
        "Find out who else writes to the table, then `tidemark compare STREAM --repair`.",
    ),
    rule(Code::CrashLoop, Critical, AtOnce, Process, &[]).says(
        "the process keeps ending by itself",
        KEEPS,
        "Each new process goes on where the last one committed.",
        "See the last lines of its log, the container's exit code and its memory limit.",
    ),
    rule(Code::StreamParked, Warning, Escalated, Stream, &[]).says(
        "a stream is not let go by the group it was in",
        "That group follows it, or nobody does: then the table keeps its last state.",
        "It looks again every second, and goes on from where that group lets the stream go.",
        "Give every process of this service the same configuration: one that leads the group named \
         in the reason still has the stream in it, or has ended without a successor.",
    ),
    rule(Code::Stalled, Critical, AtOnce, Stream, STOPPED).says(
        "nothing moves",
        "The table keeps its last state, and falls behind.",
        "It cannot tell why.",
        "See /status and the log; restart tidemark if they do not tell; please report it.",
    ),
    rule(Code::ChannelFailing, Warning, Escalated, Process, &[]).says(
        "notices cannot be delivered",
        "The data is not affected.",
        "It keeps trying, and delivers the current state when the channel answers.",
        "See the reason in /status; `tidemark check` tests each channel.",
    ),
];

/// The rule of a code.
#[expect(clippy::expect_used, reason = "a test holds that every code has its rule")]
pub fn of(code: Code) -> &'static Rule {
    RULES.iter().find(|rule| rule.code == code).expect("every code has its rule")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_a_person_is_told_acts_and_names_what_it_is_about() {
        for rule in RULES {
            let told = rule.to_do(Some("doctor"), Some(7));
            assert!(!told.contains("STREAM") && !told.contains(" ID "), "{told}");
            for command in told.split('`').skip(1).step_by(2) {
                let acts = ["resync approve", "resync cancel", "resync doctor", "accept", "retry"]
                    .iter()
                    .any(|verb| command.contains(verb));
                assert!(!acts || command.contains("--execute"), "{command} only previews");
            }
        }
    }

    #[test]
    fn every_code_has_one_rule_in_order_and_none_inhibits_itself() {
        assert_eq!(RULES.iter().map(|rule| rule.code).collect::<Vec<_>>(), Code::ALL);
        for rule in RULES {
            assert!(
                !rule.title.is_empty() && !rule.means.is_empty() && !rule.doing.is_empty(),
                "{}",
                rule.code
            );
            for deeper in rule.inhibited_by {
                assert!(
                    !of(*deeper).inhibited_by.contains(&rule.code),
                    "{} and {deeper} inhibit each other",
                    rule.code
                );
            }
        }
    }
}
