//! How many rows a statement may hold, learnt from those that ran out of time. Pure.

use std::ops::Range;

/// No limit until a statement has run out of time; half of it then; and after some commits twice as
/// many again, until there is no limit any more.
#[derive(Debug)]
pub(super) struct Pace {
    rows_max: Option<usize>,
    /// So many were too many.
    ceiling: usize,
    /// Commits since the limit was set or raised.
    commits: u32,
    /// How often rows that stand alone ran out of time while no other row passed.
    alone: u32,
}

/// Commits before more rows are tried at once.
const COMMITS: u32 = 4;

/// So often a row alone may run out of time before it is the row's fault rather than the server's.
const ALONE_MAX: u32 = 2;

impl Pace {
    pub const fn new() -> Self {
        Self { rows_max: None, ceiling: 0, commits: 0, alone: 0 }
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

    /// So many rows at once ran out of time.
    pub fn timed_out(&mut self, rows: usize) {
        self.ceiling = self.ceiling.max(rows);
        self.rows_max = Some((rows / 2).max(1));
        self.commits = 0;
    }

    /// One row ran out of time alone, and others passed: it was not their number.
    pub const fn met_a_slow_row(&mut self) {
        self.rows_max = None;
        self.ceiling = 0;
    }

    /// Rows ran out of time alone, and nothing else passed. Whether that has been seen often enough
    /// to be their fault.
    pub const fn stands_alone(&mut self) -> bool {
        self.alone += 1;
        self.alone > ALONE_MAX
    }

    /// Whether rows that stand alone are still given another try.
    pub const fn is_patient(&self) -> bool {
        self.alone < ALONE_MAX
    }

    pub fn committed(&mut self) {
        self.alone = 0;
        let Some(max) = self.rows_max else { return };
        self.commits += 1;
        if self.commits >= COMMITS {
            self.commits = 0;
            self.rows_max = Some(max.saturating_mul(2)).filter(|max| *max < self.ceiling);
            if self.rows_max.is_none() {
                self.ceiling = 0;
            }
        }
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
    fn a_row_alone_is_at_fault_only_if_others_pass_or_after_some_tries() {
        let mut pace = Pace::new();
        pace.timed_out(2_000);
        pace.met_a_slow_row();
        assert_eq!(pace.rows_max(), None, "the row explains it");
        assert_eq!([pace.stands_alone(), pace.stands_alone(), pace.stands_alone()], [false, false, true]);
        pace.committed();
        assert!(!pace.stands_alone() && pace.is_patient());
    }
}
