//! How long something took, but for what the machine kept everybody waiting for: a bound on it is
//! about tidemark, and holds on a machine that stands still now and then.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

/// Whoever sleeps this long sleeps twice as long on a machine that has other work.
const LOOK: Duration = Duration::from_millis(10);

/// How long everybody was kept waiting so far, and when that was looked at last.
type Meter = Arc<Mutex<(Duration, Instant)>>;

/// A thread of its own sleeps for a moment, over and over, and takes down what it oversleeps.
static METER: LazyLock<Meter> = LazyLock::new(|| {
    let meter = Arc::new(Mutex::new((Duration::ZERO, Instant::now())));
    let looking = Arc::clone(&meter);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(LOOK);
            let mut meter = looking.lock().unwrap();
            let (stalled, looked) = *meter;
            *meter = (stalled + overslept(looked), Instant::now());
        }
    });
    meter
});

fn overslept(since: Instant) -> Duration {
    since.elapsed().saturating_sub(LOOK * 2)
}

fn stalled() -> Duration {
    let meter = METER.lock().unwrap();
    meter.0 + overslept(meter.1)
}

#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    begun: Instant,
    stalled: Duration,
}

impl Stopwatch {
    pub fn start() -> Self {
        let stalled = stalled();
        Self { begun: Instant::now(), stalled }
    }

    /// Since its start, without the stalls of the machine.
    pub fn elapsed(self) -> Duration {
        let stalled = stalled().saturating_sub(self.stalled);
        self.begun.elapsed().saturating_sub(stalled)
    }
}
