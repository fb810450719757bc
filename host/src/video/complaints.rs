//! What FFmpeg would write to its log: counted, not shown.
//!
//! Decoders note damage on the pictures, but with several threads a picture may be handed out before
//! it is noted. The log misses nothing: who finds a complaint there decodes again with one thread.

use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use ffmpeg_next::ffi;

/// Complaints of all decoders in this process.
static COMPLAINTS: AtomicU64 = AtomicU64::new(0);

/// How many errors FFmpeg has complained of, in this process and whatever the file.
pub(super) fn count() -> u64 {
    COMPLAINTS.load(Ordering::Relaxed)
}

/// Counts complaints from now on. FFmpeg's own log would write between our lines.
pub(super) fn listen() {
    // SAFETY: the function has the type that is asked for, lives as long as the program, touches
    // nothing but an atomic, and may be called from any thread.
    unsafe { ffi::av_log_set_callback(Some(note)) };
}

/// `Arguments` is what C calls `va_list`, which is another type on each platform.
unsafe extern "C" fn note<Arguments>(
    _context: *mut c_void,
    level: c_int,
    _format: *const c_char,
    _arguments: Arguments,
) {
    if level <= ffi::AV_LOG_ERROR as c_int {
        COMPLAINTS.fetch_add(1, Ordering::Relaxed);
    }
}
