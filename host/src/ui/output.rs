//! Standard output, where answers go: what cannot be written there is never lost without a word.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
};

/// Whether the program was started without a standard output (`>&-`).
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Looks before Rust's runtime does: it opens `/dev/null` in place of what is closed, and all that is written there
/// would be lost.
extern "C" fn look() {
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
static LOOK: extern "C" fn() = look;

/// Checks that there is a standard output.
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

/// An error of writing to standard output that says so.
pub fn lost(error: io::Error) -> io::Error {
    let why = format!(
        "the output cannot be written to standard output: {error}\n  do: let it go to a file or a terminal with room for it"
    );
    io::Error::new(error.kind(), why)
}
