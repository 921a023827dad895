//! When walks that wait for their turn will be over, as far as it can be known: from how fast their
//! group's walks go now, and how many documents come before. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::stream_report::{ResyncReport, StreamReport};
use crate::model::resync_state::ResyncState;

/// Of one group.
#[derive(Default)]
struct Queue<'a> {
    /// What the walks under way have still to read.
    left: u64,
    documents_per_second: f64,
    waiting: Vec<&'a mut ResyncReport>,
}

/// Writes down when each queued walk ends, where that can be foreseen.
pub fn foresee(streams: &mut [StreamReport], now: DateTime<Utc>) {
    let mut groups: BTreeMap<&str, Queue<'_>> = BTreeMap::new();
    for StreamReport { group, resync, .. } in streams {
        let Some(walk) = resync else { continue };
        let queue = groups.entry(group.as_str()).or_default();
        if walk.queue_place.is_some() {
            queue.waiting.push(walk);
        } else if walk.state != ResyncState::Held {
            queue.goes_on(walk, now);
        }
    }
    for queue in groups.into_values() {
        queue.foresee(now);
    }
}

impl Queue<'_> {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn goes_on(&mut self, walk: &ResyncReport, now: DateTime<Utc>) {
        let Some(left) = left(walk) else { return };
        self.left += left;
        let seconds = walk.eta_at.map_or(0, |eta| (eta - now).num_milliseconds()) as f64 / 1_000.0;
        if seconds > 0.0 {
            self.documents_per_second += left as f64 / seconds;
        }
    }

    fn foresee(mut self, now: DateTime<Utc>) {
        if self.documents_per_second <= 0.0 {
            return;
        }
        self.waiting.sort_by_key(|walk| walk.queue_place);
        let mut ahead = self.left;
        for walk in self.waiting {
            // What comes after one of unknown size is unknown, too.
            let Some(left) = left(walk) else { return };
            ahead += left;
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                reason = "an estimate"
            )]
            let seconds = (ahead as f64 / self.documents_per_second) as i64;
            walk.eta_at =
                TimeDelta::try_seconds(seconds).and_then(|seconds| now.checked_add_signed(seconds));
        }
    }
}

fn left(walk: &ResyncReport) -> Option<u64> {
    Some(walk.documents_estimated?.saturating_sub(walk.documents_read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::verdict::tests::walk;

    fn stream(group: &str, resync: ResyncReport) -> StreamReport {
        let resync = Some(resync);
        StreamReport { group: group.to_owned(), resync, ..StreamReport::new("s", "d.c", "p.t") }
    }

    #[test]
    fn a_queued_walk_ends_after_those_before_it_as_fast_as_these_go() {
        let now = Utc::now();
        let under_way = ResyncReport {
            documents_read: 400,
            documents_estimated: Some(1_000),
            eta_at: Some(now + TimeDelta::seconds(60)),
            ..walk()
        };
        let queued = |place, documents| ResyncReport {
            queue_place: Some(place),
            documents_estimated: documents,
            ..walk()
        };
        let mut streams = [
            stream("main", queued(1, Some(500))),
            stream("main", under_way),
            stream("main", queued(0, Some(100))),
            stream("main", queued(3, Some(1))),
            stream("main", queued(2, None)),
            stream("other", queued(0, Some(1))),
        ];
        foresee(&mut streams, now);
        let ends = streams.map(|stream| {
            let eta = stream.resync.unwrap().eta_at?;
            Some((eta - now).num_seconds())
        });
        assert_eq!(ends, [Some(120), Some(60), Some(70), None, None, None]);
    }
}
