//! Videos: from a container to the chosen frames, exact also after seeking.
//!
//! The packets are listed first ([`Index`]). Where their time stamps can be trusted, each chosen
//! frame is decoded from the nearest key frame that can lead to it ([`timed`]); else, and where the
//! decoder contradicts them, its pictures are counted from the start ([`counted`]). Only the chosen
//! frames are turned to RGB.

use std::path::Path;

use super::error::VideoError;
use super::index::Index;
use super::limits::Limits;
use super::reader::Reader;
use super::rgb::Converter;
use super::stream::Stream;
use super::{Frames, Selection};
use super::{complaints, container, counted, timed};

/// When neither the container nor its packets tell the rate.
const FALLBACK_FPS: f64 = 25.0;

/// Reads the chosen frames of the video at `path`.
pub(super) fn read(
    path: &Path,
    selection: &Selection,
    limits: &Limits,
) -> Result<Frames, VideoError> {
    let before = complaints::count();
    let frames = attempt(path, selection, limits);
    if complaints::count() == before || limits.decoder_threads() == 1 {
        return frames;
    }
    // What is damaged is shown and refused alike, however many threads there are.
    let single = Limits {
        threads: 1,
        ..*limits
    };
    attempt(path, selection, &single)
}

fn attempt(path: &Path, selection: &Selection, limits: &Limits) -> Result<Frames, VideoError> {
    let mut container = container::open(path, limits)?;
    let decoder = container.decoder(path, limits)?;
    let index = Index::scan(path, &mut container, limits)?;
    let mut reader = Reader {
        path,
        limits,
        fps: container.fps.unwrap_or(FALLBACK_FPS),
        tick: container.tick,
        size: (decoder.width().into(), decoder.height().into()),
        index: &index,
        stream: Stream::new(path, limits, &index, container, decoder),
        converter: Converter::default(),
        bytes: 0,
    };
    if let Some(order) = &index.order
        && let Some(frames) = timed::read(&mut reader, order, selection)?
    {
        return Ok(frames);
    }
    counted::read(&mut reader, selection)
}
