//! Gives up a thread's sockets and timers while it computes.

/// Runs what computes for `items`. For many of them another thread takes over this one's sockets
/// and timers meanwhile: otherwise the writer would wait milliseconds for answers that have come.
pub fn block_in_place_if_many<T>(items: usize, work: impl FnOnce() -> T) -> T {
    const FEW: usize = 100;
    if items <= FEW { work() } else { tokio::task::block_in_place(work) }
}
