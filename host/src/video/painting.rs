//! Whether a decoder has painted all of a picture.
//!
//! FFmpeg's decoder of FFV1 stops where the data of a picture end too early, says nothing, and leaves the
//! rows that follow as the memory was: an older picture's, and another one's after a seek. So memory is
//! marked before such a decoder gets it, and pictures are searched for rows of marks.

use std::ffi::c_int;
use std::slice;

use ffmpeg_next::codec::Id;
use ffmpeg_next::codec::context::Context;
use ffmpeg_next::ffi;
use ffmpeg_next::frame::Video;

/// Bytes that no picture has in a whole row. Each lies where its number among them is that of its address.
const MARKS: [u8; 8] = [0x9e, 0x37, 0x79, 0xb9, 0x7f, 0x4a, 0x7c, 0x15];

/// Whether this codec's decoder has to be watched.
pub(super) fn is_needed(codec: Id) -> bool {
    codec == Id::FFV1
}

/// Makes a decoder that is yet to be opened paint on marked memory.
pub(super) fn watch(context: &mut Context) {
    // SAFETY: the context is alive, nothing decodes with it yet, and the function has the type that is
    // asked for.
    unsafe { (*context.as_mut_ptr()).get_buffer2 = Some(give_marked) };
}

unsafe extern "C" fn give_marked(
    context: *mut ffi::AVCodecContext,
    frame: *mut ffi::AVFrame,
    flags: c_int,
) -> c_int {
    // SAFETY: FFmpeg passes what its own function takes, which is called in its place.
    let code = unsafe { ffi::avcodec_default_get_buffer2(context, frame, flags) };
    if code < 0 {
        return code;
    }
    // SAFETY: the frame is alive, and the pointers are only copied.
    let buffers = unsafe { (*frame).buf };
    for buffer in buffers.into_iter().filter(|buffer| !buffer.is_null()) {
        // SAFETY: on success those that are not null are buffers of the given sizes, which nobody else has
        // yet.
        let bytes = unsafe { slice::from_raw_parts_mut((*buffer).data, (*buffer).size) };
        let first = bytes.as_ptr().addr();
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = MARKS[(first + at) % MARKS.len()];
        }
    }
    code
}

/// Whether no row of a picture on marked memory is left out. Rows of fewer bytes than there are marks might
/// have them by chance, and are not looked at.
pub(super) fn is_complete(frame: &Video) -> bool {
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
