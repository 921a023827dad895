//! The states of a walk of the whole collection: which one may follow which is a pure function.

use super::vocabulary::vocabulary;

vocabulary! {
    /// As kept in `resync.state`.
    pub enum ResyncState {
        /// The collection is read chunk by chunk.
        Running = "running",
        /// Rows that the walk did not see are looked for and deleted.
        Sweeping = "sweeping",
        /// It waits for a person's word.
        Held = "held",
        Completed = "completed",
        /// It was given up, and what it had repaired was carried over to the next one.
        Failed = "failed",
        /// A person ended it where it was.
        Cancelled = "cancelled",
    }
}

impl ResyncState {
    /// As stored. A walk in a state of another release is left as it is, like one that is held.
    pub fn stored(word: &str) -> Self {
        Self::parse(word).unwrap_or(Self::Held)
    }

    /// The states that may come next; none once it has ended. A first snapshot has nothing to sweep
    /// and is completed by its last chunk.
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Running => {
                &[Self::Sweeping, Self::Held, Self::Completed, Self::Failed, Self::Cancelled]
            }
            Self::Sweeping => &[Self::Held, Self::Completed, Self::Failed, Self::Cancelled],
            Self::Held => &[Self::Running, Self::Sweeping, Self::Failed, Self::Cancelled],
            Self::Completed | Self::Failed | Self::Cancelled => &[],
        }
    }

    /// Whether it has not ended.
    pub const fn is_open(self) -> bool {
        !self.next().is_empty()
    }

    /// The states it may come from.
    pub fn before(self) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |from| from.next().contains(&self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_once_and_from_wherever_it_is() {
        let open: Vec<_> = ResyncState::ALL.into_iter().filter(|state| state.is_open()).collect();
        assert_eq!(open, [ResyncState::Running, ResyncState::Sweeping, ResyncState::Held]);
        for ending in [ResyncState::Failed, ResyncState::Cancelled] {
            assert_eq!(ending.before().collect::<Vec<_>>(), open, "{ending}");
        }
        assert_eq!(
            ResyncState::Completed.before().collect::<Vec<_>>(),
            [ResyncState::Running, ResyncState::Sweeping],
            "nothing is completed while it waits for a word"
        );
        assert_eq!(
            ResyncState::Held.before().collect::<Vec<_>>(),
            [ResyncState::Running, ResyncState::Sweeping]
        );
    }
}
