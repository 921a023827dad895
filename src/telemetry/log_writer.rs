//! The log's way to standard error: a bounded queue and a thread of its own.
//!
//! Whoever logs never waits: a line that finds the queue full is dropped and counted. The thread
//! alone waits for whoever reads, or for nobody.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What waits to be written, at most; as much again may be under way.
const LINES_MAX: u64 = 4096;
const BYTES_MAX: usize = 256 << 10;

/// How soon a standard error that takes nothing just now, and says so instead of waiting, is tried
/// again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The process's one queue.
static QUEUE: Queue = Queue::new();

#[derive(Debug)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    lines: u64,
    /// The thread has lines in hand.
    writing: bool,
    /// Lines nobody will read, since the start, and how many of them have been told of.
    dropped: u64,
    told: u64,
}

impl Queue {
    const fn new() -> Self {
        let state = State { bytes: Vec::new(), lines: 0, writing: false, dropped: 0, told: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.lines == LINES_MAX || state.bytes.len() + line.len() > BYTES_MAX {
            state.dropped += 1;
            return;
        }
        state.bytes.extend_from_slice(line);
        state.lines += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for lines and takes them all, in exchange for an empty buffer; how many.
    fn take(&self, buffer: &mut Vec<u8>) -> u64 {
        let nothing = |state: &mut State| state.bytes.is_empty();
        let mut state =
            self.changed.wait_while(self.state(), nothing).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.bytes, buffer);
        state.writing = true;
        std::mem::take(&mut state.lines)
    }

    /// These lines were written. Returns how many others were dropped that nobody has been told of.
    fn written(&self) -> u64 {
        let mut state = self.state();
        let untold = state.dropped - state.told;
        state.told = state.dropped;
        untold
    }

    fn lost(&self, lines: u64) {
        self.state().dropped += lines;
    }

    fn idle(&self) {
        self.state().writing = false;
        self.changed.notify_all();
    }

    fn flush(&self, deadline: Duration) {
        let busy = |state: &mut State| state.writing || !state.bytes.is_empty();
        drop(self.changed.wait_timeout_while(self.state(), deadline, busy));
    }
}

/// Starts the thread.
///
/// # Errors
/// Standard error cannot be duplicated, or no thread be started.
pub(super) fn start() -> io::Result<()> {
    // Its own descriptor, so that whoever writes to standard error otherwise is not kept waiting
    // for a lock as well.
    let mut out = File::from(io::stderr().as_fd().try_clone_to_owned()?);
    std::thread::Builder::new().name("log".to_owned()).spawn(move || {
        let mut lines = Vec::new();
        loop {
            let number = QUEUE.take(&mut lines);
            match put(&mut out, &lines) {
                Ok(()) => {
                    let dropped = QUEUE.written();
                    if dropped > 0 {
                        tracing::warn!(
                            lines = dropped,
                            "lines of the log were dropped: nobody read them in time"
                        );
                    }
                }
                Err(_) => QUEUE.lost(number),
            }
            lines.clear();
            QUEUE.idle();
        }
    })?;
    Ok(())
}

/// Waits for as long as it takes; fails where there is nobody to write to.
fn put(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The pipe is set not to wait by whoever shares it.
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(BUSY_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until what was logged is written, but no longer than this.
pub fn flush(deadline: Duration) {
    QUEUE.flush(deadline);
}

/// Lines of the log that were dropped since the process began.
pub fn lines_dropped() -> u64 {
    QUEUE.state().dropped
}

/// Takes whole lines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        QUEUE.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_counts_and_never_waits() {
        let queue = Queue::new();
        for _ in 0..LINES_MAX + 5 {
            queue.push(b"short\n");
        }
        assert_eq!(queue.state().dropped, 5, "too many lines");
        let mut buffer = Vec::new();
        assert_eq!(queue.take(&mut buffer), LINES_MAX);
        queue.push(&vec![b'x'; BYTES_MAX + 1]);
        assert_eq!(queue.state().dropped, 6, "one too long");
        queue.lost(2);
        assert_eq!((queue.written(), queue.written()), (8, 0), "told once");
    }

    /// Takes three bytes, is interrupted, is busy, takes three, and so on.
    struct Fickle(Vec<u8>, usize);

    impl Write for Fickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += 1;
            match self.1 % 3 {
                1 => Err(ErrorKind::Interrupted.into()),
                2 => Err(ErrorKind::WouldBlock.into()),
                _ => {
                    let length = bytes.len().min(3);
                    self.0.extend(bytes.iter().take(length));
                    Ok(length)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_taken_in_parts_arrives_whole() {
        let mut out = Fickle(Vec::new(), 0);
        assert!(put(&mut out, b"one line\n").is_ok());
        assert_eq!(out.0, b"one line\n");
    }
}
