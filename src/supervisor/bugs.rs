//! Broken invariants and panics: each is told to Sentry once, however often a stream meets it
//! again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::alert::Sentry;
use crate::error::{Class, Fault};
use crate::telemetry;

#[derive(Debug)]
pub(super) struct Bugs {
    sentry: Option<Arc<Sentry>>,
    told: Mutex<BTreeSet<String>>,
}

/// Sentry is told of no more different bugs than this, so that a loop of them cannot flood it.
const TOLD_MAX: usize = 100;

impl Bugs {
    pub fn new(sentry: Option<Arc<Sentry>>) -> Arc<Self> {
        Arc::new(Self { sentry, told: Mutex::new(BTreeSet::new()) })
    }

    /// From now on Sentry hears of panics, wherever they happen.
    pub fn watch_panics(self: &Arc<Self>) {
        let bugs = Arc::clone(self);
        telemetry::on_panic(move |what| bugs.tell(what));
    }

    /// Tells a stream's fault if it is a bug.
    pub fn met(&self, stream: &str, fault: &Fault) {
        if fault.class == Class::Bug {
            self.tell(&format!("stream {stream} stopped by a bug: {fault}"));
        }
    }

    /// Sends from a thread of its own, so that nothing that follows data waits for Sentry, and with
    /// a runtime of its own, since the process's may be ending.
    fn tell(&self, what: &str) {
        let Some(sentry) = self.sentry.clone().filter(|_| self.is_new(what)) else { return };
        let what = what.to_owned();
        let thread = std::thread::spawn(move || {
            if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build()
            {
                runtime.block_on(sentry.broken(&what));
            }
        });
        // A panic outside of any task ends the process: what is sent is waited for.
        if tokio::task::try_id().is_none() {
            let _ = thread.join();
        }
    }

    fn is_new(&self, what: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < TOLD_MAX && told.insert(what.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_met_again_is_not_told_again() {
        let bugs = Bugs::new(None);
        assert!(bugs.is_new("a") && bugs.is_new("b") && !bugs.is_new("a"));
        let told = (0..1_000).filter(|n| bugs.is_new(&n.to_string())).count();
        assert_eq!(told, TOLD_MAX - 2);
    }
}
