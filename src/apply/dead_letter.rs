//! Events set aside, whole but for what their stream hides, and the rate above which that is no
//! longer an accident.

use std::collections::{BTreeMap, VecDeque};

use crate::error::{Class, Code, Fault};
use crate::model::dead_letter_code::DeadLetterCode;
use crate::model::position::ClusterTime;
use crate::model::redaction::Evidence;
use crate::settings::Record;
use crate::state::SetAside;

/// One event that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub document_id: Option<String>,
    /// The event's operation, or `snapshot` for a document read by a walk.
    pub operation: &'static str,
    /// The event, or the document, as far as the stream lets it be seen.
    pub event: Evidence,
    pub code: DeadLetterCode,
    pub error: String,
    pub cluster_time: Option<ClusterTime>,
}

impl DeadLetter {
    pub(super) fn to_set_aside(&self) -> SetAside<'_> {
        SetAside {
            document_id: self.document_id.as_deref(),
            operation: self.operation,
            event: self.event.bytes(),
            code: self.code.name(),
            error: &self.error,
            cluster_time: self.cluster_time,
        }
    }

    /// What it has in common with others that were set aside for the same reason. Holds no content.
    fn cause(&self) -> String {
        if self.code.is_of_postgres() { self.error.clone() } else { self.code.name().to_owned() }
    }
}

/// Dead letters, counted.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub by_code: BTreeMap<DeadLetterCode, u64>,
    by_cause: BTreeMap<String, u64>,
}

impl Tally {
    pub(super) fn of(letters: &[&DeadLetter]) -> Self {
        let mut tally = Self::default();
        for letter in letters {
            *tally.by_code.entry(letter.code).or_default() += 1;
            *tally.by_cause.entry(letter.cause()).or_default() += 1;
        }
        tally
    }

    pub fn total(&self) -> u64 {
        self.by_code.values().sum()
    }

    /// What was set aside most often, and how often.
    fn leading_cause(&self) -> Option<(&str, u64)> {
        let leading = self.by_cause.iter().max_by_key(|(_, number)| **number);
        leading.map(|(cause, number)| (cause.as_str(), *number))
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (code, number) in &other.by_code {
            *self.by_code.entry(*code).or_default() += number;
        }
        for (cause, number) in &other.by_cause {
            *self.by_cause.entry(cause.clone()).or_default() += number;
        }
    }

    fn take_away(&mut self, other: &Self) {
        for (cause, number) in &other.by_cause {
            if let Some(known) = self.by_cause.get_mut(cause) {
                *known = known.saturating_sub(*number);
            }
        }
        self.by_cause.retain(|_, number| *number > 0);
    }
}

/// Dead letters among the last 10,000 events.
#[derive(Debug)]
pub struct RateWindow {
    limits: Record,
    recent: VecDeque<(u64, u64, Tally)>,
    events: u64,
    /// Dead letters that count towards the rate: all but those that a person lets pass.
    dead: u64,
    causes: Tally,
}

const WINDOW_EVENTS: u64 = 10_000;

impl RateWindow {
    pub const fn new(limits: Record) -> Self {
        let causes = Tally { by_code: BTreeMap::new(), by_cause: BTreeMap::new() };
        Self { limits, recent: VecDeque::new(), events: 0, dead: 0, causes }
    }

    /// How many more dead letters a batch may bring before the rate is exceeded.
    pub fn allowance(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a fraction of 10,000, from 0 to 10,000"
        )]
        let by_fraction = (self.limits.dead_letter_fraction_max * 10_000.0) as u64;
        by_fraction.max(self.limits.dead_letter_count_min).saturating_sub(self.dead)
    }

    /// Takes a committed batch of so many events into the window. Of the dead letters in
    /// `set_aside`, `accepted` do not count, because a person let them pass.
    pub fn add(&mut self, events: u64, set_aside: &Tally, accepted: u64) {
        if events == 0 && set_aside.total() == 0 {
            return;
        }
        let dead = set_aside.total().saturating_sub(accepted);
        self.events += events;
        self.dead += dead;
        self.causes.add(set_aside);
        self.recent.push_back((events, dead, set_aside.clone()));
        while let Some((events, dead, causes)) = self.recent.front() {
            if self.events - events < WINDOW_EVENTS {
                break;
            }
            self.events -= events;
            self.dead -= dead;
            self.causes.take_away(causes);
            self.recent.pop_front();
        }
    }

    /// The fault of a batch whose dead letters, `set_aside`, are more than the rate allows: nothing
    /// of that batch is written, and the stream halts.
    pub fn exceeded(&self, set_aside: &Tally) -> Fault {
        let mut causes = self.causes.clone();
        causes.add(set_aside);
        let (cause, number) = causes.leading_cause().unwrap_or_default();
        let message = format!(
            "of the last {WINDOW_EVENTS} events more than {} cannot be stored; \
             {number} of them for one cause: {cause}",
            self.dead + self.allowance(),
        );
        let hint = "nothing was skipped; mend mapping, table or data; or have them set aside: \
                    `tidemark dead-letter accept STREAM --count N --reason TEXT --execute`";
        Fault::new(Class::Halt, Code::DeadLetterRate, message, hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(cause: &str, number: u64) -> Tally {
        Tally {
            by_code: [(DeadLetterCode::Refused, number)].into(),
            by_cause: [(cause.to_owned(), number)].into(),
        }
    }

    #[test]
    fn the_window_forgets_and_the_smaller_limit_yields_to_the_larger() {
        let mut window =
            RateWindow::new(Record { dead_letter_fraction_max: 0.001, dead_letter_count_min: 50 });
        assert_eq!(window.allowance(), 50);
        window.add(100, &tally("a", 30), 0);
        assert_eq!(window.allowance(), 20);
        window.add(100, &tally("a", 30), 30);
        assert_eq!(window.allowance(), 20, "what a person lets pass does not count");
        let said = window.exceeded(&tally("b", 21)).message;
        assert!(said.contains("than 50 ") && said.ends_with("60 of them for one cause: a"));
        window.add(10_000, &Tally::default(), 0);
        assert_eq!(window.allowance(), 50);
        assert!(window.exceeded(&tally("b", 51)).message.ends_with("51 of them for one cause: b"));
        for _ in 0..100 {
            window.add(0, &Tally::default(), 0);
        }
        assert_eq!(window.recent.len(), 1, "a silent stream leaves nothing behind");
        let wide =
            RateWindow::new(Record { dead_letter_fraction_max: 0.01, dead_letter_count_min: 0 });
        assert_eq!(wide.allowance(), 100);
    }
}
