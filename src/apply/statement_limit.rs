//! How long a statement on one table may take while the other tables of its group wait for it.
//! Pure.
//!
//! What is cancelled is tried once more. If it runs out of time again, the table is left out, or,
//! if it is the server that is slow, nothing is cancelled for a while.

use std::time::{Duration, Instant};

/// A statement may take this long, whatever it holds…
const TIME: Duration = Duration::from_secs(3);

/// …and this long for each of its rows: a disk that is cold and slow does not take it.
const ROW_TIME: Duration = Duration::from_millis(2);

/// How long nothing is cancelled once the server has shown to be slow.
const LIFTED: Duration = Duration::from_secs(60);

/// How long a statement about so many rows may take.
pub(super) fn limit(rows: usize) -> Duration {
    TIME.saturating_add(ROW_TIME.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX)))
}

/// Whether a group's statements are limited.
#[derive(Debug)]
pub(super) struct StatementLimit {
    has_others: bool,
    lifted: Option<Instant>,
    is_on: bool,
}

/// What running out of time tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RanOut {
    /// Nothing yet: it is tried again.
    Once,
    /// The table may be to blame.
    Again,
    /// Another table ran out of time, too: it is the server that is slow.
    Everywhere,
}

impl StatementLimit {
    pub const fn new(tables: usize) -> Self {
        Self { has_others: tables > 1, lifted: None, is_on: false }
    }

    /// Decides for one transaction, which is judged as it was made.
    pub fn decide(&mut self, now: Instant) {
        self.is_on =
            self.has_others && self.lifted.is_none_or(|at| now.duration_since(at) >= LIFTED);
    }

    pub const fn is_on(&self) -> bool {
        self.is_on
    }

    pub const fn lift(&mut self, now: Instant) {
        self.lifted = Some(now);
    }
}

impl RanOut {
    /// A stream's statement ran out of time; `before` is whose did within the same commit.
    pub const fn of(stream: usize, before: &mut Option<usize>) -> Self {
        match before.replace(stream) {
            None => Self::Once,
            Some(before) if before == stream => Self::Again,
            Some(_) => Self::Everywhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_statement_may_take_its_time_and_a_small_one_may_not() {
        assert_eq!(limit(1), Duration::from_millis(3_002));
        assert_eq!(limit(2_000), Duration::from_secs(7));
        assert!(limit(usize::MAX) > Duration::from_secs(1_000));
    }

    #[test]
    fn nothing_is_limited_without_neighbours_or_for_a_while_after_the_server_was_slow() {
        let now = Instant::now();
        let is_on = |limit: &mut StatementLimit, now| {
            limit.decide(now);
            limit.is_on()
        };
        assert!(!is_on(&mut StatementLimit::new(1), now));
        let mut limit = StatementLimit::new(2);
        assert!(is_on(&mut limit, now));
        limit.lift(now);
        assert!(!is_on(&mut limit, now + LIFTED / 2) && is_on(&mut limit, now + LIFTED));
    }

    #[test]
    fn a_table_is_to_blame_only_if_no_other_ran_out_of_time_before_it_did_again() {
        let mut before = None;
        assert_eq!(RanOut::of(3, &mut before), RanOut::Once);
        assert_eq!(RanOut::of(3, &mut before), RanOut::Again);
        assert_eq!(RanOut::of(4, &mut before), RanOut::Everywhere);
    }
}
