//! The page, rendered once a second at most however many look at it, and sent to them only when it
//! has changed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::response::sse::Event;
use chrono::Utc;
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::page;
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
    body: watch::Sender<Arc<str>>,
    rendered_at: Mutex<Option<Instant>>,
    places: Arc<Semaphore>,
}

impl Live {
    pub fn new(board: Arc<Board>, viewers: usize) -> Self {
        let places = Arc::new(Semaphore::new(viewers));
        Self {
            board,
            sampler: Sampler::default(),
            body: watch::Sender::new("".into()),
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
            if self.body.receiver_count() > 0 {
                self.render();
            }
        }
    }

    /// Samples the streams for the charts, until dropped.
    pub async fn sample(&self) {
        let mut tick = tokio::time::interval(rates::INTERVAL);
        loop {
            tick.tick().await;
            self.sampler.sample(&self.board.summaries().1);
        }
    }

    /// The whole document as it is now.
    pub fn document(&self) -> String {
        page::document(&self.board.report(), &self.body(), Utc::now())
    }

    /// The page's changing part as it is now, or was less than a second ago.
    fn body(&self) -> Arc<str> {
        self.render();
        self.body.borrow().clone()
    }

    fn render(&self) {
        let mut rendered_at = self.rendered_at.lock().unwrap_or_else(PoisonError::into_inner);
        if rendered_at.is_some_and(|at| at.elapsed() < INTERVAL) {
            return;
        }
        *rendered_at = Some(Instant::now());
        let rates = self.sampler.rates();
        let body = page::body(&self.board.report(), &rates, self.board.about(), Utc::now());
        self.body.send_if_modified(|old| {
            let changed = **old != *body;
            *old = body.into();
            changed
        });
    }

    /// What a viewer is sent: the page, then the page again whenever it has changed. `None` where
    /// too many look already.
    pub fn view(&self) -> Option<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.render();
        let mut body = self.body.subscribe();
        body.mark_changed();
        Some(futures_util::stream::unfold((body, place), next))
    }
}

type View = (watch::Receiver<Arc<str>>, OwnedSemaphorePermit);

async fn next((mut body, place): View) -> Option<(Result<Event, Infallible>, View)> {
    let event = match tokio::time::timeout(STILL, body.changed()).await {
        Ok(Ok(())) => Event::default().data(&**body.borrow_and_update()),
        Ok(Err(_)) => return None,
        Err(_) => Event::default().event("still").data(""),
    };
    Some((Ok(event), (body, place)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::phase::Phase;
    use crate::status::board::GroupNames;
    use crate::status::stream::StreamNames;

    #[test]
    fn it_is_sent_when_it_changes_and_rendered_once_a_second() {
        let [name, source, table] = ["one", "d.c", "p.t"].map(str::to_owned);
        let main = GroupNames {
            name: "main".to_owned(),
            streams: vec![StreamNames { name, source, table }],
        };
        let board = Board::new("s", "e", &[main], Vec::new());
        let live = Live::new(Arc::clone(&board), 1);
        let first = live.body();
        let mut viewer = live.body.subscribe();
        board.group("main").unwrap().entered(Phase::Resuming);
        assert_eq!(live.body(), first, "not again within the second");
        let a_second_later = || {
            *live.rendered_at.lock().unwrap() = None;
            live.render();
        };
        a_second_later();
        assert!(viewer.has_changed().unwrap(), "it has changed");
        viewer.mark_unchanged();
        a_second_later();
        assert!(!viewer.has_changed().unwrap(), "it has not");
        let place = live.view();
        assert!(place.is_some() && live.view().is_none(), "one may look");
        drop(place);
        assert!(live.view().is_some());
    }
}
