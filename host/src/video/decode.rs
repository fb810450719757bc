//! Reads the chosen frames of a video, exactly even after seeking.
//!
//! The packets are listed first ([`Index`]). If their timestamps are reliable, each chosen frame is decoded from the
//! nearest suitable key frame ([`timed`]). Otherwise, or if the decoder's output contradicts them, frames are counted
//! from the start ([`counted`]). Only the chosen frames are converted to RGB.

use std::path::Path;

use super::error::VideoError;
use super::index::Index;
use super::limits::ReadLimits;
use super::reader::VideoReader;
use super::rgb::Converter;
use super::stream::FrameStream;
use super::{Frames, Selection};
use super::{container, counted, ffmpeg_log, timed};

/// The frame rate if neither the container nor its packets specify one.
const FALLBACK_FPS: f64 = 25.0;

/// Reads the chosen frames of the video at `path`.
pub(super) fn read(
    path: &Path,
    selection: &Selection,
    limits: &ReadLimits,
) -> Result<Frames, VideoError> {
    let before = ffmpeg_log::errors();
    let frames = attempt(path, selection, limits);
    if ffmpeg_log::errors() == before || limits.decoder_threads() == 1 {
        return frames;
    }
    // The handling of damage must not depend on the number of threads.
    let single = ReadLimits {
        threads: 1,
        ..*limits
    };
    attempt(path, selection, &single)
}

fn attempt(path: &Path, selection: &Selection, limits: &ReadLimits) -> Result<Frames, VideoError> {
    let mut container = container::open(path, limits)?;
    let decoder = container.decoder(path, limits)?;
    let index = Index::scan(path, &mut container, limits)?;
    let mut reader = VideoReader {
        path,
        limits,
        fps: container.fps.unwrap_or(FALLBACK_FPS),
        tick: container.tick,
        size: (decoder.width().into(), decoder.height().into()),
        index: &index,
        stream: FrameStream::new(path, limits, &index, container, decoder),
        converter: Converter::default(),
        total_bytes: 0,
    };
    if let Some(order) = &index.order
        && let Some(frames) = timed::read(&mut reader, order, selection)?
    {
        return Ok(frames);
    }
    counted::read(&mut reader, selection)
}
