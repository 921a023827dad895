//! What took how long, for whoever collects traces (`[telemetry]`): batches, walks, commands.
//!
//! Nothing is kept unless somebody collects, what is kept is bounded, and who tells of a span waits
//! for nobody. A span holds counts and names of the configuration: nothing of a document.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// So many are kept until they are taken: some seconds of many small batches. Later ones are
/// dropped, and counted.
const KEPT_MAX: usize = 8_192;

static ARE_COLLECTED: AtomicBool = AtomicBool::new(false);
static ENDED: Mutex<VecDeque<EndedSpan>> = Mutex::new(VecDeque::new());
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Something that goes on; it ends when it is dropped. Empty where nobody collects.
#[derive(Debug, Default)]
pub struct Span(Option<Box<EndedSpan>>);

/// Something that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedSpan {
    pub trace: u128,
    pub id: u64,
    /// What it is a part of.
    pub parent: Option<u64>,
    pub name: &'static str,
    pub begun: SystemTime,
    pub ended: SystemTime,
    pub attributes: Vec<(&'static str, Attribute)>,
    /// It came to nothing.
    pub has_failed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    Text(String),
    Count(u64),
}

/// From now on spans are kept, or not: those that are kept already are forgotten.
pub fn collect(are_collected: bool) {
    ARE_COLLECTED.store(are_collected, Ordering::Relaxed);
    if !are_collected {
        *ENDED.lock().unwrap_or_else(PoisonError::into_inner) = VecDeque::new();
    }
}

/// What has ended since this was asked last, and how many spans had no place meanwhile.
pub fn take() -> (VecDeque<EndedSpan>, u64) {
    let ended = std::mem::take(&mut *ENDED.lock().unwrap_or_else(PoisonError::into_inner));
    (ended, DROPPED.swap(0, Ordering::Relaxed))
}

impl Span {
    /// Something that is no part of anything else.
    pub fn begin(name: &'static str) -> Self {
        Self::of(name, None)
    }

    /// A part of this.
    #[must_use]
    pub fn part(&self, name: &'static str) -> Self {
        self.0.as_ref().map_or_else(Self::default, |whole| Self::of(name, Some(whole)))
    }

    /// A part of this that has just ended, and took so long.
    pub fn had_part(&self, name: &'static str, took: Duration) {
        if let Some(part) = &mut self.part(name).0 {
            part.begun = part.begun.checked_sub(took).unwrap_or(part.begun);
        }
    }

    fn of(name: &'static str, whole: Option<&EndedSpan>) -> Self {
        if !ARE_COLLECTED.load(Ordering::Relaxed) {
            return Self(None);
        }
        let now = SystemTime::now();
        Self(Some(Box::new(EndedSpan {
            trace: whole.map_or_else(|| fastrand::u128(1..), |whole| whole.trace),
            id: fastrand::u64(1..),
            parent: whole.map(|whole| whole.id),
            name,
            begun: now,
            ended: now,
            attributes: Vec::new(),
            has_failed: false,
        })))
    }

    /// `text` is a name of the configuration's, or of a fixed vocabulary.
    pub fn text(&mut self, name: &'static str, text: &str) {
        self.set(name, || Attribute::Text(text.to_owned()));
    }

    pub fn count(&mut self, name: &'static str, count: u64) {
        self.set(name, || Attribute::Count(count));
    }

    fn set(&mut self, name: &'static str, value: impl FnOnce() -> Attribute) {
        if let Some(span) = &mut self.0 {
            span.attributes.retain(|(known, _)| *known != name);
            span.attributes.push((name, value()));
        }
    }

    /// It came to nothing.
    pub fn fail(&mut self) {
        if let Some(span) = &mut self.0 {
            span.has_failed = true;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(mut span) = self.0.take() else { return };
        span.ended = SystemTime::now().max(span.begun);
        let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() < KEPT_MAX && ARE_COLLECTED.load(Ordering::Relaxed) {
            ended.push_back(*span);
        } else {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test: what is collected is the process's.
    #[test]
    fn spans_are_kept_while_they_are_collected_and_no_more_than_have_a_place() {
        drop(Span::begin("before"));
        assert_eq!(take(), (VecDeque::new(), 0), "nobody collects");

        collect(true);
        let mut whole = Span::begin("batch");
        whole.count("events", 1);
        whole.count("events", 2);
        let mut part = whole.part("apply");
        part.fail();
        drop(part);
        whole.had_part("encode", Duration::from_secs(3));
        drop(whole);
        let (ended, _) = take();
        // Other tests may begin some, too.
        let of = |name| ended.iter().find(|span| span.name == name).unwrap();
        let (batch, apply, encode) = (of("batch"), of("apply"), of("encode"));
        assert_eq!(batch.attributes, [("events", Attribute::Count(2))]);
        assert!(apply.has_failed && !batch.has_failed);
        for part in [apply, encode] {
            assert_eq!((part.trace, part.parent), (batch.trace, Some(batch.id)));
        }
        let took = encode.ended.duration_since(encode.begun).unwrap();
        assert!(took >= Duration::from_secs(3), "{took:?}");

        for _ in 0..KEPT_MAX + 5 {
            drop(Span::begin("many"));
        }
        let (ended, dropped) = take();
        assert!(ended.len() == KEPT_MAX && dropped >= 5, "{} {dropped}", ended.len());
        drop(Span::begin("kept"));
        collect(false);
        assert!(take().0.is_empty());
    }
}
