//! What each stream and each group did over the last minutes, for the page's small charts. Sampled
//! by the status address itself.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::status::board::Board;

/// How often a sample is taken, and how many are kept: five minutes.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
const KEPT: usize = 150;

/// So many samples make one point of a table's small chart.
const POINT: usize = 10;

/// So many of the newest are what goes on now.
const NOW: usize = 5;

/// Samples, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Series(VecDeque<f32>);

impl Series {
    fn push(&mut self, value: f32) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        } else if self.0.is_empty() {
            self.0.reserve_exact(KEPT);
        }
        self.0.push_back(value);
    }

    pub fn values(&self) -> impl Iterator<Item = f32> + Clone {
        self.0.iter().copied()
    }

    /// The mean of the last ten seconds.
    pub fn now(&self) -> f32 {
        mean(self.0.iter().rev().take(NOW).copied())
    }

    /// Means of twenty seconds each, oldest first. `left`: how many of the newest samples make no
    /// whole one yet, so that a point, once made, stays as it is.
    fn points(&self, left: usize) -> Vec<f32> {
        let whole: Vec<f32> = self.0.iter().rev().skip(left).copied().collect();
        let mut points: Vec<f32> =
            whole.chunks_exact(POINT).map(|of| mean(of.iter().copied())).collect();
        points.reverse();
        points
    }
}

fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, number) = values.fold((0.0, 0.0), |(sum, number), value| (sum + value, number + 1.0));
    if number > 0.0 { sum / number } else { 0.0 }
}

/// Events and rows a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Rates {
    pub events: Series,
    pub rows: Series,
    last: Option<(u64, u64)>,
}

impl Rates {
    fn sample(&mut self, now: (u64, u64)) {
        let before = self.last.replace(now).unwrap_or(now);
        #[expect(clippy::cast_precision_loss, reason = "a few seconds' events")]
        let rate =
            |now: u64, before: u64| now.saturating_sub(before) as f32 / INTERVAL.as_secs_f32();
        self.events.push(rate(now.0, before.0));
        self.rows.push(rate(now.1, before.1));
    }
}

/// The rates of all.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: usize,
    /// In the order of configuration, as the groups.
    streams: Vec<Rates>,
    groups: Vec<(Rates, Series)>,
}

static NONE: Rates =
    Rates { events: Series(VecDeque::new()), rows: Series(VecDeque::new()), last: None };
static STILL: Series = Series(VecDeque::new());

impl History {
    pub fn stream(&self, place: usize) -> &Rates {
        self.streams.get(place).unwrap_or(&NONE)
    }

    /// The sums of a group's streams, and its lag in seconds.
    pub fn group(&self, place: usize) -> (&Rates, &Series) {
        self.groups.get(place).map_or((&NONE, &STILL), |(rates, lag)| (rates, lag))
    }

    /// The points of a small chart of a stream's rows.
    pub fn points(&self, place: usize) -> Vec<f32> {
        self.stream(place).rows.points(self.samples % POINT)
    }

    fn sample(&mut self, board: &Board) {
        self.samples += 1;
        self.streams.resize_with(board.streams().len(), Rates::default);
        self.groups.resize_with(board.groups().len(), Default::default);
        let mut left = self.streams.iter_mut().zip(board.streams()).peekable();
        for ((sum, lag), group) in self.groups.iter_mut().zip(board.groups()) {
            let mut of_group = (0, 0);
            while let Some((rates, stream)) = left.next_if(|(_, one)| one.group().is(group)) {
                let (events, rows) = stream.counts();
                of_group = (of_group.0 + events, of_group.1 + rows);
                rates.sample((events, rows));
            }
            sum.sample(of_group);
            #[expect(clippy::cast_possible_truncation, reason = "seconds, for a chart")]
            lag.push(group.report().lag_seconds as f32);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Sampler(Mutex<History>);

impl Sampler {
    pub fn sample(&self, board: &Board) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sample(board);
    }

    pub fn read<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::board::tests::following;
    use crate::status::stream::Committed;

    #[test]
    fn points_stay_as_they_are_while_samples_come_and_a_group_is_the_sum_of_its_streams() {
        let board = following(2);
        let sampler = Sampler::default();
        let sample = |rows: u64| {
            for stream in board.streams() {
                stream.committed(&Committed { rows_changed: rows, ..Committed::default() });
            }
            sampler.sample(&board);
        };
        (0..9).for_each(|_| sample(0));
        assert!(sampler.read(|history| history.points(0)).is_empty());
        sample(20);
        assert_eq!(sampler.read(|history| history.points(0)), [1.0]);
        (0..4).for_each(|_| sample(8));
        sampler.read(|history| {
            assert_eq!(history.points(1), [1.0], "no whole one yet");
            assert!((history.stream(1).rows.now() - 5.2).abs() < 0.01, "four of 4 and one of 10");
            assert_eq!(history.group(0).0.rows.values().last(), Some(8.0));
            assert_eq!(history.stream(7), &Rates::default());
        });
    }
}
