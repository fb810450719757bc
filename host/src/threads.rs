//! How many threads are useful.

use std::thread::available_parallelism;

/// Threads that any machine may start, so that results on many threads can be compared on a small one.
const ALWAYS: usize = 64;

/// Returns the number of threads that the machine runs at the same time.
pub(crate) fn available() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Returns the number of threads to start when `requested` are requested.
///
/// The threads of an idle pool look for work in each other's queues: thousands of them take minutes to start and
/// to stop, and more threads than processors compute nothing sooner.
pub(crate) fn useful(requested: usize) -> usize {
    requested.clamp(1, available().max(ALWAYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_threads_are_not_started() {
        assert_eq!(useful(0), 1);
        assert_eq!(useful(3), 3);
        assert_eq!(useful(64), 64);
        assert_eq!(useful(4096), available().max(64));
    }
}
