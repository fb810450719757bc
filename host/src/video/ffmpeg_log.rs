//! Counts FFmpeg's log messages instead of printing them.
//!
//! Decoders flag damaged frames, but with several threads a frame may be returned before it is flagged. The log is
//! complete: if it contains an error, the file is decoded again with one thread.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use ffmpeg_next::ffi;

/// The errors of all decoders in this process.
static ERRORS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The errors logged in this thread, except those about missing packets.
    static THREAD_ERRORS: Cell<u64> = const { Cell::new(0) };
    /// The messages about missing packets logged in this thread.
    static THREAD_GAPS: Cell<u64> = const { Cell::new(0) };
}

/// Returns the number of errors that FFmpeg logged in this process, for all files.
pub(super) fn errors() -> u64 {
    ERRORS.load(Ordering::Relaxed)
}

/// Returns the number of errors that FFmpeg logged in this thread. Includes all errors of a decoder with one thread.
pub(super) fn thread_errors() -> u64 {
    THREAD_ERRORS.get()
}

/// Returns how often FFmpeg logged in this thread that packets before the current one are missing.
pub(super) fn thread_gaps() -> u64 {
    THREAD_GAPS.get()
}

/// Starts counting. FFmpeg's own log would mix with the program's output.
pub(super) fn install() {
    // SAFETY: the function has the required type, lives as long as the program, accesses only an atomic and a
    // thread-local number, and may be called from any thread.
    unsafe { ffi::av_log_set_callback(Some(count_message)) };
}

/// FFmpeg's log callback. Some messages that are not errors report that a decoder concealed damage. On the other
/// hand, the H.264 decoder logs an error whenever it is asked to discard a frame that it has not seen since a seek,
/// which has no effect.
///
/// `Arguments` is C's `va_list`, whose type depends on the platform.
unsafe extern "C" fn count_message<Arguments>(
    _context: *mut c_void,
    level: c_int,
    format: *const c_char,
    _arguments: Arguments,
) {
    let begins = |start: &[u8]| begins(format, start);
    let counter = if begins(b"Frame num gap") {
        &THREAD_GAPS
    } else if (level <= ffi::AV_LOG_ERROR as c_int || begins(b"concealing "))
        && !begins(b"mmco: unref short failure")
    {
        &THREAD_ERRORS
    } else {
        return;
    };
    ERRORS.fetch_add(1, Ordering::Relaxed);
    counter.set(counter.get() + 1);
}

/// Whether a message begins with `start`.
fn begins(format: *const c_char, start: &[u8]) -> bool {
    // SAFETY: FFmpeg passes null or a NUL-terminated string that outlives the call.
    !format.is_null()
        && unsafe { CStr::from_ptr(format) }
            .to_bytes()
            .starts_with(start)
}
