//! Whether one table holds up the others of its group, told from how long its statements take while
//! theirs are quick. Pure.
//!
//! A wrong "yes" costs a walk of a table that was well; a wrong "no" costs its neighbours their
//! latency. So a large batch is no sign, nor a server that is slow for all, nor a single hiccup.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::{Class, Code, Fault};

/// A statement that takes this long for each of its rows is slow: a trigger or an index that reads
/// a whole table does, and no cold disk or long line.
const ROW_TIME: Duration = Duration::from_millis(100);

/// It is the table that is slow only if the server answered so many times as fast just before.
const TIMES_AN_ANSWER: u32 = 10;

/// What is looked at together.
const WINDOW: Duration = Duration::from_secs(60);

/// A table holds up the others with slow statements of this time together…
const TOTAL: Duration = Duration::from_secs(3);

/// …of which there are so many…
const STATEMENTS: usize = 2;

/// …and at least one of so many.
const ONE_OF: usize = 4;

/// How long the statements of one work took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    time: Duration,
    is_slow: bool,
}

impl Took {
    /// `answer`: what a statement took just before that touched none of the followed tables. `None`
    /// tells nothing: nothing was sent.
    pub(super) fn of(rows: usize, time: Duration, answer: Duration) -> Option<Self> {
        if rows == 0 {
            return None;
        }
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        let is_slow =
            time >= ROW_TIME.saturating_mul(rows) && time >= answer.saturating_mul(TIMES_AN_ANSWER);
        Some(Self { time, is_slow })
    }
}

/// A table that holds the others up: its slow statements within a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldsUp {
    pub statements: usize,
    pub total: Duration,
}

/// What is said of a table that holds the others up.
pub fn held_up(how: &str) -> Fault {
    let message = format!("its table held up the others: {how}");
    let hint = "see what a write to it costs: a trigger, an index, a constraint";
    Fault::new(Class::Transient, Code::TargetSlow, message, hint)
}

/// What the tables of a group took lately.
#[derive(Debug)]
pub struct SlowTables {
    /// Each takes long, so there are few of them in a window.
    slow: VecDeque<(Instant, usize, Duration)>,
    /// By stream: the quick statements of the window that is under way, and of the one before.
    quick: Vec<[usize; 2]>,
    window: Instant,
}

impl SlowTables {
    pub fn new(streams: usize, now: Instant) -> Self {
        Self { slow: VecDeque::new(), quick: vec![[0; 2]; streams], window: now }
    }

    /// Takes note of what a commit took on a stream's table; answers whether that table holds the
    /// others up, and is then forgotten.
    pub fn note(&mut self, now: Instant, stream: usize, took: Option<Took>) -> Option<HoldsUp> {
        self.pass(now);
        let Took { time, is_slow } = took?;
        if !is_slow {
            if let Some([quick, _]) = self.quick.get_mut(stream) {
                *quick += 1;
            }
            return None;
        }
        self.slow.push_back((now, stream, time));
        let holds_up = self.holds_up(stream)?;
        self.slow.retain(|(_, of, _)| *of != stream);
        Some(holds_up)
    }

    fn pass(&mut self, now: Instant) {
        self.slow.retain(|(at, ..)| now.duration_since(*at) < WINDOW);
        let passed = now.duration_since(self.window);
        if passed >= WINDOW {
            let is_long_ago = passed >= WINDOW * 2;
            for [quick, before] in &mut self.quick {
                *before = if is_long_ago { 0 } else { *quick };
                *quick = 0;
            }
            self.window = now;
        }
    }

    fn holds_up(&self, stream: usize) -> Option<HoldsUp> {
        let of_it = self.slow.iter().filter(|(_, of, _)| *of == stream);
        let total = of_it.clone().map(|(.., time)| *time).sum();
        let statements = of_it.count();
        let is_so =
            statements >= STATEMENTS && total >= TOTAL && self.is_slow(stream) == Some(true);
        if !is_so {
            return None;
        }
        let others = (0..self.quick.len()).filter(|other| *other != stream);
        let (slow, quick): (Vec<bool>, Vec<bool>) =
            others.filter_map(|other| self.is_slow(other)).partition(|is_slow| *is_slow);
        let others_are_quick = !quick.is_empty() && quick.len() >= slow.len();
        others_are_quick.then_some(HoldsUp { statements, total })
    }

    /// Whether a table is slow rather than quick; `None` if nothing was sent to it lately.
    fn is_slow(&self, stream: usize) -> Option<bool> {
        let slow = self.slow.iter().filter(|(_, of, _)| *of == stream).count();
        let quick: usize = self.quick.get(stream)?.iter().sum();
        (slow + quick > 0).then_some(slow * ONE_OF >= slow + quick && slow > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Took = Took { time: Duration::from_millis(2), is_slow: false };

    fn slow(millis: u64) -> Took {
        Took { time: Duration::from_millis(millis), is_slow: true }
    }

    /// Works on tables, one after the other: each a second after the one before.
    fn held_up(streams: usize, works: &[(usize, Took)]) -> Option<usize> {
        let begun = Instant::now();
        let mut tables = SlowTables::new(streams, begun);
        let mut at = begun;
        works.iter().find_map(|(stream, took)| {
            at += Duration::from_secs(1);
            tables.note(at, *stream, Some(*took)).map(|_| *stream)
        })
    }

    #[test]
    fn a_statement_is_slow_for_its_rows_and_for_a_server_that_answers_at_once() {
        let is_slow = |rows, time, answer| {
            let (time, answer) = (Duration::from_millis(time), Duration::from_millis(answer));
            Took::of(rows, time, answer).unwrap().is_slow
        };
        assert!(is_slow(3, 1_500, 1), "half a second a row");
        assert!(!is_slow(2_000, 9_000, 1), "a large batch on a slow disk");
        assert!(!is_slow(1, 60, 1), "a cold row");
        assert!(!is_slow(1, 240, 120), "a long line");
        assert!(!is_slow(1, 4_000, 900), "a server that is slow for all");
        assert_eq!(Took::of(0, TOTAL, Duration::ZERO), None, "nothing was sent");
    }

    #[test]
    fn a_table_that_is_slow_again_while_its_neighbours_are_quick_holds_them_up() {
        let (quick, few) = (QUICK, slow(1_000));
        assert_eq!(held_up(2, &[(1, quick), (0, few), (0, slow(10_000))]), Some(0));
        assert_eq!(held_up(2, &[(1, quick), (0, slow(10_000))]), None, "once is a hiccup");
        assert_eq!(held_up(2, &[(1, quick), (0, few), (0, few)]), None, "two seconds of a minute");
        assert_eq!(held_up(2, &[(1, quick), (0, few), (0, few), (0, few)]), Some(0));
        let busy = [(1, quick), (0, few)].into_iter().chain([(0, quick); 40]);
        let busy: Vec<_> = busy.chain([(0, slow(9_000)), (0, slow(9_000))]).collect();
        assert_eq!(held_up(2, &busy), None, "most of its statements are quick");
        let late: Vec<_> =
            [(0, slow(4_000))].into_iter().chain([(1, quick); 61]).chain([(0, few)]).collect();
        assert_eq!(held_up(2, &late), None, "that was over a minute ago");
    }

    #[test]
    fn what_is_slow_for_the_others_too_or_has_no_others_holds_nobody_up() {
        let (quick, long) = (QUICK, slow(5_000));
        assert_eq!(held_up(1, &[(0, long), (0, long), (0, long)]), None);
        assert_eq!(held_up(3, &[(0, long), (0, long), (0, long)]), None, "nobody else writes");
        assert_eq!(held_up(2, &[(0, long), (1, long), (0, long), (1, long)]), None);
        let most = [(2, quick), (0, long), (1, long), (0, long), (1, long)];
        assert_eq!(held_up(4, &most), Some(0), "one is quick and one is slow");
        let all_but_one = [(3, quick), (0, long), (1, long), (2, long), (0, long), (1, long)];
        assert_eq!(held_up(4, &all_but_one), None, "the server is");
    }
}
