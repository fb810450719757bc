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
    /// Complaints of whatever this thread called, but for those of packets that are missing.
    static HERE: Cell<u64> = const { Cell::new(0) };
    /// How often whatever this thread called told of packets that are missing.
    static GAPS: Cell<u64> = const { Cell::new(0) };
}

/// How many errors FFmpeg has complained of, in this process and whatever the file.
pub(super) fn count() -> u64 {
    COMPLAINTS.load(Ordering::Relaxed)
}

/// How many errors FFmpeg has complained of in this thread: all those of a decoder with one thread.
pub(super) fn count_here() -> u64 {
    HERE.get()
}

/// How often FFmpeg told in this thread that packets are missing before the one it was given.
pub(super) fn gaps_here() -> u64 {
    GAPS.get()
}

/// Counts complaints from now on. FFmpeg's own log would write between our lines.
pub(super) fn listen() {
    // SAFETY: the function has the type that is asked for, lives as long as the program, touches
    // nothing but an atomic and a number of its thread, and may be called from any thread.
    unsafe { ffi::av_log_set_callback(Some(note)) };
}

/// Some messages are no errors for FFmpeg, but tell that a decoder fills holes with guesses. And the
/// decoder of H.264 complains wherever it is to forget a picture that it has not seen since a seek, which
/// changes nothing.
///
/// `Arguments` is what C calls `va_list`, which is another type on each platform.
unsafe extern "C" fn note<Arguments>(
    _context: *mut c_void,
    level: c_int,
    format: *const c_char,
    _arguments: Arguments,
) {
    let begins = |start: &[u8]| begins(format, start);
    let counter = if begins(b"Frame num gap") {
        &GAPS
    } else if (level <= ffi::AV_LOG_ERROR as c_int || begins(b"concealing "))
        && !begins(b"mmco: unref short failure")
    {
        &HERE
    } else {
        return;
    };
    COMPLAINTS.fetch_add(1, Ordering::Relaxed);
    counter.set(counter.get() + 1);
}

/// Whether a message begins so.
fn begins(format: *const c_char, start: &[u8]) -> bool {
    // SAFETY: FFmpeg passes null or a NUL-terminated text that outlives the call.
    !format.is_null()
        && unsafe { CStr::from_ptr(format) }
            .to_bytes()
            .starts_with(start)
}
