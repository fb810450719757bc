//! Detects frames that a decoder did not fill completely.
//!
//! If the data of a frame end too early, FFmpeg's FFV1 decoder stops without an error. The remaining rows keep the
//! old contents of the buffer: an earlier frame, or a different one after a seek. Buffers are therefore filled with
//! a pattern before such a decoder gets them, and decoded frames are searched for rows with this pattern.

use std::ffi::c_int;
use std::slice;

use ffmpeg_next::codec::Id;
use ffmpeg_next::codec::context::Context;
use ffmpeg_next::ffi;
use ffmpeg_next::frame::Video;

/// The pattern, which no frame contains in a whole row. A byte at address `a` is `MARKS[a % MARKS.len()]`.
const MARKS: [u8; 8] = [0x9e, 0x37, 0x79, 0xb9, 0x7f, 0x4a, 0x7c, 0x15];

/// Whether frames of this codec's decoder must be checked.
pub(super) fn is_needed(codec: Id) -> bool {
    codec == Id::FFV1
}

/// Makes a decoder that is not open yet use buffers filled with the pattern.
pub(super) fn mark_buffers(context: &mut Context) {
    // SAFETY: the context is alive, nothing decodes with it yet, and the function has the required type.
    unsafe { (*context.as_mut_ptr()).get_buffer2 = Some(get_marked_buffer) };
}

unsafe extern "C" fn get_marked_buffer(
    context: *mut ffi::AVCodecContext,
    frame: *mut ffi::AVFrame,
    flags: c_int,
) -> c_int {
    // SAFETY: the arguments are those that FFmpeg passes to its own function.
    let code = unsafe { ffi::avcodec_default_get_buffer2(context, frame, flags) };
    if code < 0 {
        return code;
    }
    // SAFETY: the frame is alive, and the pointers are only copied.
    let buffers = unsafe { (*frame).buf };
    for buffer in buffers.into_iter().filter(|buffer| !buffer.is_null()) {
        // SAFETY: on success, the pointers that are not null refer to buffers of the given sizes, which are not used
        // elsewhere yet.
        let bytes = unsafe { slice::from_raw_parts_mut((*buffer).data, (*buffer).size) };
        let first = bytes.as_ptr().addr();
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = MARKS[(first + at) % MARKS.len()];
        }
    }
    code
}

/// Whether the decoder wrote every row of a frame. Rows shorter than the pattern are not checked, because they
/// might match it by chance.
pub(super) fn is_filled(frame: &Video) -> bool {
    let mut planes =
        (0..frame.planes()).filter(|&plane| frame.plane_width(plane) as usize >= MARKS.len());
    planes.all(|plane| {
        let mut rows = frame.data(plane).chunks_exact(frame.stride(plane).max(1));
        !rows.any(|row| {
            let first = row.as_ptr().addr();
            let mut bytes = row.iter().enumerate();
            bytes.all(|(at, byte)| *byte == MARKS[(first + at) % MARKS.len()])
        })
    })
}
