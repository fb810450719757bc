//! A video during decoding: its packets, its decoder, and the conversion to RGB.

use std::path::Path;
use std::sync::Arc;

use ffmpeg_next::Error;
use ffmpeg_next::frame::Video;
use ffmpeg_next::util::frame::DecodeError;

use super::error::{VideoError, with_reason};
use super::frames::RgbFrame;
use super::index::{Entry, Index};
use super::limits::ReadLimits;
use super::rgb::Converter;
use super::stream::FrameStream;

/// A video during decoding.
pub(super) struct VideoReader<'a> {
    pub(super) path: &'a Path,
    pub(super) limits: &'a ReadLimits,
    /// Average frames per second.
    pub(super) fps: f64,
    /// Length of a tick of the timestamps in seconds.
    pub(super) tick: f64,
    pub(super) index: &'a Index,
    pub(super) stream: FrameStream<'a>,
    /// Width and height, as declared by the file.
    pub(super) size: (u64, u64),
    pub(super) converter: Converter,
    /// Total size in bytes of all frames converted so far.
    pub(super) total_bytes: u128,
}

impl VideoReader<'_> {
    /// Refuses `frames` frames if their total size exceeds the limit.
    pub(super) fn check_clip(&self, frames: usize) -> Result<(), VideoError> {
        let (width, height) = self.size;
        self.limits
            .check_clip(self.path, frames as u64, width, height)
    }

    /// Resets the total size of the converted frames.
    pub(super) fn reset_size(&mut self) {
        self.total_bytes = 0;
    }

    /// Whether `place` is the last packet in the file.
    pub(super) fn is_last(&self, place: usize) -> bool {
        place + 1 == self.index.entries.len()
    }

    /// Whether the packet at `place` is only decoded as a reference.
    pub(super) fn is_hidden(&self, place: usize) -> bool {
        let entry = self.index.entries.get(place);
        entry.is_some_and(Entry::is_hidden)
    }

    /// Whether the decoder concealed missing parts of this frame, which belongs to the packet at `place`.
    pub(super) fn is_incomplete(&mut self, place: Option<usize>, frame: &Video) -> bool {
        let flags = frame.decode_error_flags();
        let damaged = DecodeError::INVALID_BITSTREAM | DecodeError::DECODE_SLICES;
        // Not every decoder flags the frame in which the file is cut.
        let is_last = place.is_some_and(|place| self.is_last(place));
        let is_cut = is_last && self.stream.damage().is_last_damaged();
        let is_marked = flags.intersects(damaged) || frame.is_corrupt();
        if is_marked || is_cut || !self.stream.is_filled(frame) {
            self.stream.record_error(Error::InvalidData);
            place.inspect(|&place| self.stream.damage().mark_damaged(place));
            return true;
        }
        // A reference that is missing after a seek is available when decoding starts earlier. If it is missing even
        // from the start, the file was cut that way, and every player shows the frame like this.
        if let Some(place) = place.filter(|_| flags.contains(DecodeError::MISSING_REFERENCE)) {
            self.stream.damage().mark_damaged(place);
        }
        false
    }

    /// Converts a frame to RGB. `frame` and `total` are used in messages.
    pub(super) fn convert(
        &mut self,
        (frame, total): (usize, usize),
        picture: &Video,
    ) -> Result<Arc<RgbFrame>, VideoError> {
        let (width, height) = (u64::from(picture.width()), u64::from(picture.height()));
        self.limits.check_pixels(self.path, width, height)?;
        self.total_bytes += u128::from(width) * u128::from(height) * 3;
        self.limits.check_clip_bytes(self.path, self.total_bytes)?;
        let orientation = self.stream.orientation(picture);
        match self.converter.convert(picture, orientation) {
            Ok(frame) => Ok(Arc::new(frame)),
            Err(failure) => {
                self.stream.record_error(failure);
                Err(self.damaged(frame, total))
            }
        }
    }

    pub(super) fn damaged(&self, frame: usize, total: usize) -> VideoError {
        VideoError::Damaged {
            path: self.path.to_owned(),
            frame,
            total,
            seconds: frame as f64 / self.fps,
            source: self.stream.failure().and_then(with_reason),
        }
    }
}
