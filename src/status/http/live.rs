//! The page, rendered once a second at most however many look at it; what of it has changed is sent
//! to them.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::response::sse::Event;
use chrono::Utc;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::detail;
use super::page::Page;
use super::rates::{self, Sampler};
use crate::status::board::Board;

/// How often it is rendered at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a viewer hears nothing at most: an unchanged page is said to be so.
const STILL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Live {
    board: Arc<Board>,
    sampler: Sampler,
    shown: watch::Sender<Arc<Shown>>,
    rendered_at: Mutex<Option<Instant>>,
    places: Arc<Semaphore>,
}

/// The page as it was last rendered.
#[derive(Debug, Default)]
struct Shown {
    page: Page,
    /// Counts the times it was rendered to something else.
    version: u64,
    /// The version that each part is of, in their order.
    changed: Vec<u64>,
}

impl Shown {
    /// The page after this one; `None` if it is the same.
    fn next(&self, page: Page) -> Option<Self> {
        let version = self.version + 1;
        let mut before = self.page.parts().zip(&self.changed);
        let parts = page.parts().map(|(_, html)| match before.next() {
            Some(((_, old), changed)) if old == html => *changed,
            _ => version,
        });
        let changed: Vec<u64> = parts.collect();
        changed.contains(&version).then_some(Self { page, version, changed })
    }

    /// What has changed since: all of it, or ids and elements as JSON.
    fn since(&self, version: u64) -> Event {
        if version == 0 {
            return Event::default().data(self.page.body());
        }
        let parts = self.page.parts().zip(&self.changed);
        let parts: Vec<(String, &str)> =
            parts.filter(|(_, changed)| **changed > version).map(|(part, _)| part).collect();
        Event::default().event("parts").data(serde_json::to_string(&parts).unwrap_or_default())
    }
}

impl Live {
    pub fn new(board: Arc<Board>, viewers: usize) -> Self {
        let places = Arc::new(Semaphore::new(viewers));
        Self {
            board,
            sampler: Sampler::default(),
            shown: watch::Sender::default(),
            rendered_at: Mutex::default(),
            places,
        }
    }

    /// Renders for whoever looks, until dropped.
    pub async fn keep(&self) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.shown.receiver_count() > 0 {
                self.render();
            }
        }
    }

    /// Samples the streams for the charts, until dropped.
    pub async fn sample(&self) {
        let mut tick = tokio::time::interval(rates::INTERVAL);
        loop {
            tick.tick().await;
            self.sampler.sample(&self.board);
        }
    }

    /// The whole document as it is now, or was less than a second ago.
    pub fn document(&self) -> String {
        self.render();
        let shown = Arc::clone(&self.shown.borrow());
        shown.page.document(Utc::now())
    }

    /// The page of one stream.
    pub fn stream(&self, name: &str) -> Option<String> {
        let (report, incidents) = self.board.detail(name)?;
        let place = self.board.streams().iter().position(|stream| stream.name() == name)?;
        let group = self.board.groups().iter().position(|group| group.name() == report.group)?;
        Some(self.sampler.read(|history| {
            let drawn = (history.stream(place), history.group(group).1);
            detail::document(&report, &incidents, drawn, Utc::now())
        }))
    }

    fn render(&self) {
        let mut rendered_at = self.rendered_at.lock().unwrap_or_else(PoisonError::into_inner);
        if rendered_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        *rendered_at = Some(Instant::now());
        let (report, about) = (self.board.overview(), self.board.about());
        let page = self.sampler.read(|history| Page::new(&report, history, about, Utc::now()));
        self.shown.send_if_modified(|shown| {
            let next = shown.next(page);
            let changed = next.is_some();
            *shown = next.map_or_else(|| Arc::clone(shown), Arc::new);
            changed
        });
    }

    /// What a viewer is sent: the page, then whatever of it has changed. `None` where too many look
    /// already.
    pub fn view(&self) -> Option<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.render();
        let mut shown = self.shown.subscribe();
        shown.mark_changed();
        Some(futures_util::stream::unfold(View { shown, place, version: 0 }, next))
    }
}

struct View {
    shown: watch::Receiver<Arc<Shown>>,
    place: OwnedSemaphorePermit,
    /// What was sent last.
    version: u64,
}

async fn next(
    View { mut shown, place, version }: View,
) -> Option<(Result<Event, Infallible>, View)> {
    let (event, version) = match tokio::time::timeout(STILL, shown.changed()).await {
        Ok(Ok(())) => {
            let shown = Arc::clone(&shown.borrow_and_update());
            (shown.since(version), shown.version)
        }
        Ok(Err(_)) => return None,
        Err(_) => (Event::default().event("still").data(""), version),
    };
    Some((Ok(event), View { shown, place, version }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Class, Code, Fault};
    use crate::status::board::tests::following;

    fn changed(shown: &Shown, since: u64) -> Vec<String> {
        let parts = shown.page.parts().zip(&shown.changed);
        parts.filter(|(_, at)| **at > since).map(|((id, _), _)| id).collect()
    }

    #[test]
    fn what_has_changed_is_sent_and_it_is_rendered_once_a_second() {
        let board = following(1_000);
        let live = Live::new(Arc::clone(&board), 1);
        let first = live.document();
        assert!(first.contains("stream_0999"));
        let mut viewer = live.shown.subscribe();
        let fault = Fault::new(Class::Halt, Code::SourceDropped, "it was dropped", "");
        board.streams()[7].parked(&fault);
        assert!(!live.document().contains("it was dropped"), "not again within the second");
        let a_second_later = || {
            *live.rendered_at.lock().unwrap() = None;
            live.render();
        };
        a_second_later();
        assert!(viewer.has_changed().unwrap(), "it has changed");
        let shown = Arc::clone(&viewer.borrow_and_update());
        assert_eq!(changed(&shown, shown.version - 1), ["top", "s7"]);
        assert_eq!(changed(&shown, 0).len(), 1_002);
        let place = live.view();
        assert!(place.is_some() && live.view().is_none(), "one may look");
        drop(place);
        assert!(live.view().is_some());
    }

    #[test]
    fn what_is_the_same_is_not_sent() {
        let shown = Shown::default();
        let page = || {
            let (report, about) = (following(2).overview(), Vec::new());
            let history = Sampler::default();
            // Ages are told by the second.
            let now = report.groups[0].phase_since;
            history.read(|history| Page::new(&report, history, &about, now))
        };
        let shown = shown.next(page()).unwrap();
        assert_eq!((shown.version, shown.changed.len()), (1, 4));
        assert!(shown.next(page()).is_none());
    }
}
