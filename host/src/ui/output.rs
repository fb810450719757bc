//! Standard output, where answers are printed. A failed write is always reported.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether the program was started without a standard output (`>&-`).
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Records whether standard output is closed. This must run before Rust's runtime starts, which opens `/dev/null`
/// instead, so that all output would be lost.
extern "C" fn record_closed() {
    CLOSED.store(
        std::fs::symlink_metadata("/proc/self/fd/1").is_err()
            && std::fs::symlink_metadata("/proc/self/fd").is_ok(),
        Ordering::Relaxed,
    );
}

// SAFETY: the C library calls each function in this section once before `main`, on the main thread; this one takes
// no arguments, uses nothing that `main` sets up, and cannot unwind.
#[used]
#[unsafe(link_section = ".init_array")]
static RECORD_CLOSED: extern "C" fn() = record_closed;

/// Checks that standard output is open.
///
/// # Errors
///
/// When it is closed.
pub fn check() -> io::Result<()> {
    if CLOSED.load(Ordering::Relaxed) {
        return Err(io::Error::other("it is closed"));
    }
    Ok(())
}

/// Adds to an error that it occurred while writing to standard output.
pub fn write_error(error: io::Error) -> io::Error {
    let why = format!(
        "the output cannot be written to standard output: {error}\n  do: redirect it to a terminal, or to a file on a disk with free space"
    );
    io::Error::new(error.kind(), why)
}
