//! How many rows a statement may hold, learnt from those that ran out of time. Pure.

use std::ops::Range;

/// How many rows a statement may hold. There is no limit until a statement runs out of time; then
/// the limit is half of that statement's rows, and after some commits it doubles, until it is as
/// high as what ran out of time and is dropped.
#[derive(Debug)]
pub(super) struct Pace {
    rows_max: Option<usize>,
    /// The most rows with which a statement ran out of time since there was no limit.
    ceiling: usize,
    /// Commits since the limit was set or raised.
    commits: u32,
    /// How many commits are waited for before the limit is raised. It doubles each time that
    /// raising turned out to be too early.
    patience: u32,
    /// Whether the limit was raised since a statement last ran out of time.
    raised: bool,
    /// How often rows that stand alone ran out of time while no other row passed.
    alone: u32,
}

/// Commits before more rows are tried at once: at first, and at most.
const COMMITS: u32 = 4;
const COMMITS_MAX: u32 = 32;

/// So many rows are tried while others wait.
const FEW: usize = 30;

/// How often rows alone in their statement may run out of time, with no other row passing, before
/// that is put down to the rows rather than to the server.
const ALONE_MAX: u32 = 2;

impl Pace {
    pub const fn new() -> Self {
        Self { rows_max: None, ceiling: 0, commits: 0, patience: COMMITS, raised: false, alone: 0 }
    }

    pub const fn rows_max(&self) -> Option<usize> {
        self.rows_max
    }

    pub fn allows(&self, rows: usize) -> bool {
        self.rows_max.is_none_or(|max| rows <= max)
    }

    /// The first part of a range that holds more than may be sent at once.
    pub fn cut(&self, range: &Range<usize>) -> Option<Range<usize>> {
        self.rows_max.filter(|max| range.len() > *max).map(|max| range.start..range.start + max)
    }

    /// A statement with so many rows ran out of time.
    pub fn timed_out(&mut self, rows: usize) {
        self.ceiling = self.ceiling.max(rows);
        self.rows_max = Some((rows / 2).max(1));
        self.commits = 0;
        if std::mem::take(&mut self.raised) {
            self.patience = (self.patience * 2).min(COMMITS_MAX);
        }
    }

    /// The same, and others wait: what is tried next is to tell soon whether a few rows pass.
    pub fn timed_out_for_others(&mut self, rows: usize) {
        self.timed_out(rows);
        self.rows_max = self.rows_max.map(|max| max.min(FEW));
    }

    /// One row ran out of time alone while others passed, so their number was not to blame and the
    /// limit is dropped.
    pub const fn met_a_slow_row(&mut self) {
        self.lift();
    }

    const fn lift(&mut self) {
        (self.rows_max, self.ceiling) = (None, 0);
        (self.patience, self.raised) = (COMMITS, false);
    }

    /// Rows ran out of time though each was alone in its statement, and no other row passed.
    /// Returns whether that has now happened often enough to be put down to the rows.
    pub const fn stands_alone(&mut self) -> bool {
        self.alone += 1;
        self.alone > ALONE_MAX
    }

    /// Whether rows that stand alone are still given another try.
    pub const fn is_patient(&self) -> bool {
        self.alone < ALONE_MAX
    }

    pub const fn committed(&mut self) {
        self.alone = 0;
        if self.rows_max.is_none() && !self.raised {
            return;
        }
        self.commits += 1;
        if self.commits < self.patience {
            return;
        }
        self.commits = 0;
        match self.rows_max {
            Some(max) if max.saturating_mul(2) < self.ceiling => self.rows_max = Some(max * 2),
            Some(_) => (self.rows_max, self.ceiling) = (None, 0),
            // Statements without a limit have passed for a while.
            None => return self.lift(),
        }
        self.raised = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_halves_at_once_and_comes_back_slowly_until_there_is_none() {
        let mut pace = Pace::new();
        assert!(pace.allows(usize::MAX) && pace.cut(&(0..2_000)).is_none());
        pace.timed_out(2_000);
        pace.timed_out(1_000);
        assert_eq!((pace.rows_max(), pace.cut(&(10..2_000))), (Some(500), Some(10..510)));
        let limits: Vec<Option<usize>> = (0..9)
            .map(|_| {
                pace.committed();
                pace.rows_max()
            })
            .collect();
        let (half, all) = (Some(500), Some(1_000));
        assert_eq!(limits, [half, half, half, all, all, all, all, None, None]);
        pace.timed_out(1);
        assert_eq!(pace.rows_max(), Some(1), "one row is the least");
    }

    #[test]
    fn what_was_too_many_again_is_tried_less_and_less_often() {
        let mut pace = Pace::new();
        pace.timed_out(2_000);
        pace.timed_out(1_000);
        let mut wait = |limit: Option<usize>, too_many: usize| {
            let waited = (1..100).find(|_| {
                pace.committed();
                pace.rows_max() == limit
            });
            pace.timed_out(too_many);
            waited
        };
        let waited = [(); 5].map(|()| wait(Some(1_000), 1_000));
        assert_eq!(waited, [4, 8, 16, 32, 32].map(Some));
        // The last step, to no limit at all, is such a try, too.
        let mut pace = Pace::new();
        pace.timed_out(2_000);
        let mut wait = || {
            let waited = (1..100).find(|_| {
                pace.committed();
                pace.rows_max().is_none()
            });
            pace.timed_out(2_000);
            waited
        };
        assert_eq!([wait(), wait(), wait()], [4, 8, 16].map(Some));
    }

    #[test]
    fn a_row_alone_is_at_fault_only_if_others_pass_or_after_some_tries() {
        let mut pace = Pace::new();
        pace.timed_out(2_000);
        pace.met_a_slow_row();
        assert_eq!(pace.rows_max(), None, "the row explains it");
        assert_eq!(
            [pace.stands_alone(), pace.stands_alone(), pace.stands_alone()],
            [false, false, true]
        );
        pace.committed();
        assert!(!pace.stands_alone() && pace.is_patient());
    }
}
