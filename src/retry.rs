//! When to try again: pure decisions over the time that is passed in.

use std::time::{Duration, Instant};

use crate::error::{Class, Fault};
use crate::settings::Retry;

/// Attempts of one step since its last progress.
#[derive(Debug)]
pub struct Backoff {
    settings: Retry,
    attempts: u64,
    failing_since: Option<Instant>,
}

/// What to do about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Wait this long, then try again; the attempt's number.
    Wait(Duration, u64),
    /// Not to be tried again: stop with this.
    GiveUp(Fault),
}

impl Backoff {
    pub const fn new(settings: Retry) -> Self {
        Self { settings, attempts: 0, failing_since: None }
    }

    /// Progress was made: the count starts anew.
    pub const fn reset(&mut self) {
        self.attempts = 0;
        self.failing_since = None;
    }

    pub const fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    /// Decides on a failure. `jitter` is from 0 to 1.
    pub fn decide(&mut self, fault: Fault, now: Instant, jitter: f64) -> Decision {
        let since = *self.failing_since.get_or_insert(now);
        let lasted = now.duration_since(since);
        self.attempts += 1;
        let spent = self.settings.attempts_max > 0 && self.attempts > self.settings.attempts_max;
        let unknown_for_too_long =
            fault.class == Class::Unknown && lasted >= self.settings.escalate_after;
        if !fault.class.may_retry() {
            return Decision::GiveUp(fault);
        }
        if spent || unknown_for_too_long {
            let message = format!("given up after {} attempts: {}", self.attempts, fault.message);
            return Decision::GiveUp(Fault { class: Class::Halt, message, ..fault });
        }
        Decision::Wait(delay(self.settings, self.attempts, jitter), self.attempts)
    }
}

/// The pause after so many attempts: doubles from the least delay to the greatest; between half of
/// it and all of it, by `jitter`, which is from 0 to 1.
pub fn delay(settings: Retry, attempts: u64, jitter: f64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(20);
    let full = settings.delay_min.saturating_mul(1 << doublings).min(settings.delay_max);
    full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    const SETTINGS: Retry = Retry {
        attempts_max: 0,
        delay_min: Duration::from_millis(250),
        delay_max: Duration::from_secs(60),
        escalate_after: Duration::from_secs(120),
    };

    fn fault(class: Class) -> Fault {
        Fault::new(class, Code::SourceUnreachable, "x", "")
    }

    #[test]
    fn delays_double_to_the_limit_and_begin_anew_after_progress() {
        let mut backoff = Backoff::new(SETTINGS);
        let now = Instant::now();
        let mut delays = (0..10).map(|_| match backoff.decide(fault(Class::Transient), now, 1.0) {
            Decision::Wait(delay, _) => delay.as_millis(),
            Decision::GiveUp(fault) => panic!("{fault}"),
        });
        assert_eq!(delays.by_ref().take(3).collect::<Vec<_>>(), [250, 500, 1000]);
        assert_eq!(delays.last(), Some(60_000));
        backoff.reset();
        assert_eq!(
            backoff.decide(fault(Class::Transient), now, 0.0),
            Decision::Wait(Duration::from_millis(125), 1)
        );
    }

    #[test]
    fn an_unknown_error_becomes_a_halt_after_its_deadline_and_a_limit_of_attempts_holds() {
        let mut backoff = Backoff::new(SETTINGS);
        let now = Instant::now();
        assert!(matches!(backoff.decide(fault(Class::Unknown), now, 0.0), Decision::Wait(..)));
        let later = now + Duration::from_secs(121);
        assert!(matches!(
            backoff.decide(fault(Class::Unknown), later, 0.0),
            Decision::GiveUp(f) if f.class == Class::Halt
        ));
        let mut limited = Backoff::new(Retry { attempts_max: 2, ..SETTINGS });
        let wait = |d: Decision| matches!(d, Decision::Wait(..));
        assert!(wait(limited.decide(fault(Class::Transient), now, 0.0)));
        assert!(wait(limited.decide(fault(Class::Transient), now, 0.0)));
        assert!(!wait(limited.decide(fault(Class::Transient), now, 0.0)));
    }

    #[test]
    fn what_may_not_be_retried_is_given_up_at_once() {
        for class in [
            Class::Halt,
            Class::HistoryLost,
            Class::Fenced,
            Class::Rewound,
            Class::Bug,
            Class::Record,
        ] {
            let mut backoff = Backoff::new(SETTINGS);
            assert_eq!(
                backoff.decide(fault(class), Instant::now(), 0.0),
                Decision::GiveUp(fault(class))
            );
        }
    }
}
