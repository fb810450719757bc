//! The chosen frames by counting the pictures that a decoder gives from the start: exact for every
//! file, whatever its time stamps, for the price of decoding all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::VideoError;
use super::reader::Reader;
use super::{Frames, RgbFrame, Selection, sample};

/// What one pass over the file came to.
struct Pass {
    /// Pictures that the decoder gave.
    total: usize,
    /// The frames that were wanted; `None` where a picture is incomplete.
    found: BTreeMap<usize, Option<Arc<RgbFrame>>>,
}

/// Reads the chosen frames.
pub(super) fn read(reader: &mut Reader<'_>, selection: &Selection) -> Result<Frames, VideoError> {
    // Mostly a packet is a picture; where it is not, the second pass knows how many there are.
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
            indices,
            total_frames: total,
            fps: reader.fps,
        });
    }
    // One and the same file gave another number of pictures each time.
    Err(reader.damaged(total, total))
}

/// Decodes the whole file, and converts the frames `wanted` of the `expected` ones.
fn count(reader: &mut Reader<'_>, wanted: &[usize], expected: usize) -> Result<Pass, VideoError> {
    let mut found: BTreeMap<usize, _> = wanted.iter().map(|&frame| (frame, None)).collect();
    reader.check_clip(found.len())?;
    reader.begin_anew();
    reader.stream.rewind()?;
    let mut total = 0;
    while let Some(picture) = reader.stream.next_picture()? {
        // Some decoders give what the container says is not shown.
        if picture.place.is_some_and(|place| reader.is_hidden(place)) {
            continue;
        }
        let is_incomplete = reader.is_incomplete(picture.place, &picture.frame);
        // The file was cut there.
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
        _ => Ok(Pass { total, found }),
    }
}
