//! Reads the chosen frames by decoding from the start and counting. This is exact for every file, whatever its
//! timestamps, but decodes the whole file.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::VideoError;
use super::reader::VideoReader;
use super::{Frames, RgbFrame, Selection, sample};

/// The result of one pass over the file.
struct CountedFrames {
    /// The number of decoded frames.
    total: usize,
    /// The requested frames. `None` for incomplete ones.
    found: BTreeMap<usize, Option<Arc<RgbFrame>>>,
}

/// Reads the chosen frames.
pub(super) fn read(
    reader: &mut VideoReader<'_>,
    selection: &Selection,
) -> Result<Frames, VideoError> {
    // Usually a packet is a frame. Otherwise, the second pass knows the number of frames.
    let mut total = reader.index.shown;
    for _ in 0..2 {
        let chosen = sample::frame_indices(reader.path, total, reader.fps, selection);
        let pass = count(reader, chosen.as_deref().unwrap_or_default(), total)?;
        if pass.total != total {
            total = pass.total;
            continue;
        }
        let indices = chosen?;
        let frames = indices.iter().map(|frame| {
            let found = pass.found.get(frame).cloned().flatten();
            found.ok_or_else(|| reader.damaged(*frame, total))
        });
        return Ok(Frames {
            frames: frames.collect::<Result<_, _>>()?,
            // The timestamps cannot be relied on.
            seconds: vec![f64::NAN; indices.len()],
            indices,
            total_frames: total,
            fps: reader.fps,
        });
    }
    // Each pass decoded a different number of frames.
    Err(reader.damaged(total, total))
}

/// Decodes the whole file of `expected` frames and converts the frames in `wanted`.
fn count(
    reader: &mut VideoReader<'_>,
    wanted: &[usize],
    expected: usize,
) -> Result<CountedFrames, VideoError> {
    let mut found: BTreeMap<usize, _> = wanted.iter().map(|&frame| (frame, None)).collect();
    reader.check_clip(found.len())?;
    reader.reset_size();
    reader.stream.rewind()?;
    let mut total = 0;
    while let Some(picture) = reader.stream.next_frame()? {
        // Some decoders return frames that the container marks as not shown.
        if picture.place.is_some_and(|place| reader.is_hidden(place)) {
            continue;
        }
        let is_incomplete = reader.is_incomplete(picture.place, &picture.frame);
        // The file is cut short there.
        if is_incomplete && picture.place.is_some_and(|place| reader.is_last(place)) {
            continue;
        }
        if let Some(place) = found.get_mut(&total).filter(|_| !is_incomplete) {
            *place = Some(reader.convert((total, expected), &picture.frame)?);
        }
        total += 1;
        reader.limits.check_frames(reader.path, total as u64)?;
    }
    match reader.stream.failure() {
        Some(_) if total == 0 => Err(reader.damaged(0, expected)),
        _ => Ok(CountedFrames { total, found }),
    }
}
