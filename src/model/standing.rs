//! How a row stands to its document. Pure.

use super::position::ClusterTime;
use super::vocabulary::vocabulary;

vocabulary! {
    /// What is to be said of a document and its row.
    pub enum Standing {
        /// The row is what the document is, or neither is there.
        Equal = "equal",
        /// They differ, and the group has still to come to the time at which the document was read.
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

/// What is known of a document and its row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known {
    pub is_same: bool,
    /// Dead letters of it that are not resolved.
    pub letters: usize,
    pub is_parked: bool,
    pub is_walked: bool,
    /// When the document was read.
    pub read_at: ClusterTime,
    /// The position of the group, if it has one.
    pub position: Option<ClusterTime>,
}

impl Standing {
    pub fn of(known: Known) -> Self {
        match known {
            Known { is_same: true, .. } => Self::Equal,
            Known { letters: 1.., .. } => Self::SetAside,
            Known { is_parked: true, .. } => Self::Parked,
            Known { is_walked: true, .. } => Self::Walked,
            Known { position, read_at, .. } if position.is_none_or(|at| at < read_at) => {
                Self::Behind
            }
            Known { .. } => Self::Different,
        }
    }

    /// For people: what that means, and what to type if anything is to be done.
    pub fn told(self, stream: &str) -> String {
        match self {
            Self::Equal => "the row is what the document is".to_owned(),
            Self::Behind => {
                format!("its change is still to be applied: `tidemark status --stream {stream}`")
            }
            Self::SetAside => {
                "an event of it was set aside: `tidemark dead-letter list` says why".to_owned()
            }
            Self::Parked => {
                format!("the stream is parked: `tidemark status --stream {stream}` says why")
            }
            Self::Walked => "its collection is walked: `tidemark resync list`".to_owned(),
            Self::Different => format!(
                "nothing under way mends it: `tidemark resync {stream} --ids ID --reason TEXT \
                 --execute`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_a_difference_is_told_before_that_nothing_does() {
        let time = |seconds: u64| ClusterTime::new(seconds << 32);
        let known = Known { read_at: time(5), position: Some(time(5)), ..Known::default() };
        let of = |change: fn(&mut Known)| {
            let mut changed = known;
            change(&mut changed);
            Standing::of(changed)
        };
        assert_eq!(of(|_| {}), Standing::Different);
        assert_eq!(of(|known| known.position = None), Standing::Behind);
        assert_eq!(of(|known| known.read_at = ClusterTime::new(6 << 32)), Standing::Behind);
        assert_eq!(of(|known| known.is_walked = true), Standing::Walked);
        assert_eq!(of(|known| (known.is_walked, known.is_parked) = (true, true)), Standing::Parked);
        let letters = |known: &mut Known| (known.letters, known.is_parked) = (1, true);
        assert_eq!(of(letters), Standing::SetAside);
        assert_eq!(of(|known| (known.is_same, known.letters) = (true, 1)), Standing::Equal);
        for standing in Standing::ALL {
            let told = standing.told("doctor");
            assert!(standing == Standing::Equal || told.contains("`tidemark "), "{told}");
        }
    }
}
