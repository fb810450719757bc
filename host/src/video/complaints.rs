//! What FFmpeg would write to its log: counted, not shown.
//!
//! Decoders note damage on the pictures, but with several threads a picture may be handed out before
//! it is noted. The log misses nothing: who finds a complaint there decodes again with one thread.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use ffmpeg_next::ffi;

/// Complaints of all decoders in this process.
static COMPLAINTS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Complaints of whatever this thread called.
    static HERE: Cell<u64> = const { Cell::new(0) };
}

/// How many errors FFmpeg has complained of, in this process and whatever the file.
pub(super) fn count() -> u64 {
    COMPLAINTS.load(Ordering::Relaxed)
}

/// How many errors FFmpeg has complained of in this thread: all those of a decoder with one thread.
pub(super) fn count_here() -> u64 {
    HERE.get()
}

/// Counts complaints from now on. FFmpeg's own log would write between our lines.
pub(super) fn listen() {
    // SAFETY: the function has the type that is asked for, lives as long as the program, touches
    // nothing but an atomic and a number of its thread, and may be called from any thread.
    unsafe { ffi::av_log_set_callback(Some(note)) };
}

/// `Arguments` is what C calls `va_list`, which is another type on each platform.
unsafe extern "C" fn note<Arguments>(
    _context: *mut c_void,
    level: c_int,
    format: *const c_char,
    _arguments: Arguments,
) {
    if level <= ffi::AV_LOG_ERROR as c_int || is_guess(format) {
        COMPLAINTS.fetch_add(1, Ordering::Relaxed);
        HERE.set(HERE.get() + 1);
    }
}

/// Whether a decoder tells that it fills holes with guesses, which it does not call an error.
fn is_guess(format: *const c_char) -> bool {
    // SAFETY: FFmpeg passes null or a NUL-terminated text that outlives the call.
    !format.is_null()
        && unsafe { CStr::from_ptr(format) }
            .to_bytes()
            .starts_with(b"concealing ")
}
