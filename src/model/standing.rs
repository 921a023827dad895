//! How a row stands to its document. Pure.

use super::position::ClusterTime;
use super::vocabulary::vocabulary;

vocabulary! {
    /// What is to be said of a document and its row.
    pub enum Standing {
        /// The row is what the document is, or neither is there.
        Equal = "equal",
        /// They differ, and the group may have still to apply what the document is.
        Behind = "behind",
        /// They differ, and an event of the document was set aside.
        SetAside = "set_aside",
        /// They differ, and the stream is left out of its group until a cause is gone.
        Parked = "parked",
        /// They differ, and the collection is being walked.
        Walked = "walked",
        /// They differ though the group has passed that time: nothing that is under way mends it.
        Different = "different",
    }
}

/// How a document and its row differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Difference {
    #[default]
    None,
    /// One of them may have been changed between two looks, or the group has not come so far.
    Moving,
    /// The row should be by now what the document is.
    Stays,
}

/// What is known of a document and its row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    pub difference: Difference,
    /// Dead letters of it that are not resolved.
    pub letters: usize,
    pub is_parked: bool,
    pub is_walked: bool,
}

/// A document and its row were looked at, the group's position has passed that time, and they were
/// looked at again.
#[derive(Debug, Clone, Copy)]
pub struct Looks {
    /// The document was the same both times.
    pub stays: bool,
    /// The time of the row at the second look.
    pub row: Option<ClusterTime>,
    /// When the document was read first.
    pub since: ClusterTime,
    /// The source's time after the second look.
    pub now: ClusterTime,
}

impl Looks {
    /// Whether the row should be what the document is. The second look's own time does not matter:
    /// on a source that others write to, no position ever is as new as that.
    pub fn is_due(self) -> bool {
        // A row of a time to come was not written by any change.
        let newer = self.row.is_some_and(|row| row > self.since && row <= self.now);
        self.stays && !newer
    }
}

impl Standing {
    pub const fn of(known: Known) -> Self {
        match known {
            Known { difference: Difference::None, .. } => Self::Equal,
            Known { letters: 1.., .. } => Self::SetAside,
            Known { is_parked: true, .. } => Self::Parked,
            Known { is_walked: true, .. } => Self::Walked,
            Known { difference: Difference::Moving, .. } => Self::Behind,
            Known { .. } => Self::Different,
        }
    }

    /// For people: what that means, and what to type if anything is to be done.
    pub fn told(self, stream: &str, id: &str) -> String {
        match self {
            Self::Equal => "the row is what the document is".to_owned(),
            Self::Behind => {
                format!("its change is still to be applied: `tidemark status --stream {stream}`")
            }
            Self::SetAside => {
                "an event of it was set aside: `tidemark dead-letter list` says why".to_owned()
            }
            Self::Parked => {
                let status = format!("`tidemark status --stream {stream}` says why");
                format!("its stream is left out of its group, parked or paused: {status}")
            }
            Self::Walked => "its collection is walked: `tidemark resync list`".to_owned(),
            Self::Different => format!(
                "nothing under way mends it: `tidemark resync {stream} --ids {} --reason TEXT \
                 --execute`",
                in_a_shell(id)
            ),
        }
    }
}

/// As a shell takes it for one word.
fn in_a_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_a_difference_is_told_before_that_nothing_does() {
        let known = Known { difference: Difference::Stays, ..Known::default() };
        let of = |change: fn(&mut Known)| {
            let mut changed = known;
            change(&mut changed);
            Standing::of(changed)
        };
        assert_eq!(of(|_| {}), Standing::Different);
        assert_eq!(of(|known| known.difference = Difference::Moving), Standing::Behind);
        assert_eq!(of(|known| known.is_walked = true), Standing::Walked);
        assert_eq!(of(|known| (known.is_walked, known.is_parked) = (true, true)), Standing::Parked);
        let letters = |known: &mut Known| (known.letters, known.is_parked) = (1, true);
        assert_eq!(of(letters), Standing::SetAside);
        assert_eq!(
            of(|known| (known.difference, known.letters) = (Difference::None, 1)),
            Standing::Equal
        );
        for standing in Standing::ALL {
            let told = standing.told("doctor", "7");
            assert!(standing == Standing::Equal || told.contains("`tidemark "), "{told}");
        }
    }

    #[test]
    fn what_is_to_be_typed_names_the_document() {
        for (id, word) in [
            ("5f0000000000000000000001", "--ids 5f0000000000000000000001 "),
            ("{\"$numberInt\":\"7\"}", "--ids '{\"$numberInt\":\"7\"}' "),
            ("it's; rm", "--ids 'it'\\''s; rm' "),
        ] {
            let told = Standing::Different.told("doctor", id);
            assert!(told.contains(word), "{told}");
        }
    }

    #[test]
    fn a_row_is_due_unless_document_or_row_changed_meanwhile() {
        let time = |seconds: u64| ClusterTime::new(seconds << 32);
        let of = |stays, row: Option<u64>| {
            Looks { stays, row: row.map(time), since: time(5), now: time(9) }.is_due()
        };
        assert!(of(true, None) && of(true, Some(5)) && of(true, Some(10)));
        assert!(!of(true, Some(6)) && !of(true, Some(9)), "written meanwhile");
        assert!(!of(false, None) && !of(false, Some(5)), "there may be a change to come");
    }
}
