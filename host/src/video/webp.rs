//! Reads still and animated WebP.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use image_webp::{DecodingError, WebPDecoder};

use super::animation::{Animation, Disposal, Patch, PatchDecoder};
use super::error::VideoError;
use super::limits::ReadLimits;
use super::orientation::Orientation;
use super::{Frames, RgbFrame, Selection, memory, samples};

/// Maximum memory that a decoder allocates for a pixel, besides its output.
const BYTES_PER_PIXEL: u64 = 8;

/// A complete WebP.
pub(super) struct WebP<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    width: u32,
    height: u32,
    animated: bool,
    /// Whether the last patch shows nothing of those before it.
    is_key: bool,
    exif: Option<Range<usize>>,
    patches: Vec<Patch>,
    /// The range of the chunks of each patch.
    parts: Vec<Range<usize>>,
}

impl<'a> WebP<'a> {
    /// Parses the chunks.
    pub(super) fn parse(
        path: &'a Path,
        bytes: &'a [u8],
        limits: &ReadLimits,
    ) -> Result<Self, VideoError> {
        let mut webp = Self {
            path,
            bytes,
            width: 0,
            height: 0,
            animated: false,
            is_key: false,
            exif: None,
            patches: Vec::new(),
            parts: Vec::new(),
        };
        let declared = webp.number(4, 4) + 8;
        if declared > bytes.len() {
            return Err(webp.broken(
                format!("{declared} bytes"),
                format!("{} bytes", bytes.len()),
            ));
        }
        let mut at = 12;
        while at < declared {
            let (kind, data) = webp.chunk(&mut at, declared)?;
            match &kind {
                b"VP8X" => {
                    webp.animated = webp.number(data.start, 1) & 2 != 0;
                    webp.width = webp.number(data.start + 4, 3) as u32 + 1;
                    webp.height = webp.number(data.start + 7, 3) as u32 + 1;
                }
                b"EXIF" => webp.exif = Some(data),
                b"ANMF" if webp.animated => {
                    limits.check_frames(path, webp.patches.len() as u64 + 1)?;
                    let patch = webp.patch(&data)?;
                    memory::push(path, &mut webp.patches, patch)?;
                    memory::push(path, &mut webp.parts, data.start + 16..data.end)?;
                }
                _ => {}
            }
        }
        Ok(webp)
    }

    /// Returns the type and contents of the chunk at `at`, and advances `at`.
    fn chunk(&self, at: &mut usize, end: usize) -> Result<([u8; 4], Range<usize>), VideoError> {
        let data = *at + 8..(*at + 8).saturating_add(self.number(*at + 4, 4));
        let kind = self
            .bytes
            .get(*at..*at + 4)
            .and_then(|kind| kind.try_into().ok());
        match kind.filter(|_| data.end <= end) {
            Some(kind) => {
                *at = data.end + data.len() % 2;
                Ok((kind, data))
            }
            None => {
                let found = format!("one at byte {at} that extends beyond the end at {end}");
                Err(self.broken("complete chunks".into(), found))
            }
        }
    }

    fn broken(&self, expected: String, found: String) -> VideoError {
        VideoError::Truncated {
            path: self.path.to_owned(),
            container: "WebP".into(),
            expected,
            found,
            source: None,
        }
    }

    /// Returns the little-endian number of `len` bytes at `at`, or 0 past the end.
    fn number(&self, at: usize, len: usize) -> usize {
        let bytes = self.bytes.get(at..at.saturating_add(len)).unwrap_or(&[]);
        bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | usize::from(byte))
    }

    fn patch(&mut self, data: &Range<usize>) -> Result<Patch, VideoError> {
        if data.len() < 24 {
            let found = format!("{} bytes", data.len());
            return Err(self.broken("at least 24 bytes for a frame".into(), found));
        }
        let word = |at: usize| self.number(data.start + at, 3) as u32;
        let (x, y, width, height) = (word(0) * 2, word(3) * 2, word(6) + 1, word(9) + 1);
        if x + width > self.width || y + height > self.height {
            let expected = format!("frames within {}×{}", self.width, self.height);
            let found = format!("{width}×{height} at {x}, {y}");
            return Err(self.broken(expected, found));
        }
        let flags = self.number(data.start + 15, 1);
        let (replaces, clears) = (flags & 2 != 0, flags & 1 != 0);
        let is_full = |width, height| (width, height) == (self.width, self.height);
        let replaces = replaces || !self.has_alpha(data.start + 16);
        // As libwebp decides: it blends nothing with an empty canvas.
        let on_empty = self.patches.last().is_none_or(|last| {
            last.disposal == Disposal::Clear && (self.is_key || is_full(last.width, last.height))
        });
        let is_key = on_empty || replaces && is_full(width, height);
        let patch = Patch {
            x,
            y,
            width,
            height,
            seconds: f64::from(word(12)) / 1000.0,
            disposal: if clears {
                Disposal::Clear
            } else {
                Disposal::Keep
            },
            opaque: replaces || is_key,
        };
        self.is_key = is_key;
        Ok(patch)
    }

    /// Whether the patch with the chunks at `at` may be transparent.
    fn has_alpha(&self, at: usize) -> bool {
        match self.bytes.get(at..at + 4) {
            Some(b"VP8 ") => false,
            Some(b"VP8L") => self.number(at + 9, 4) >> 28 & 1 != 0,
            _ => true,
        }
    }

    /// Returns the orientation of the image.
    pub(super) fn orientation(&self) -> Orientation {
        let exif = self.exif.clone().map(|exif| &self.bytes[exif]);
        exif.map_or_else(Orientation::default, Orientation::from_exif_block)
    }

    pub(super) fn is_animated(&self) -> bool {
        self.animated
    }

    /// Reads the chosen frames of an animation.
    pub(super) fn read_animation(
        mut self,
        selection: &Selection,
        limits: &ReadLimits,
    ) -> Result<Frames, VideoError> {
        let animation = Animation {
            path: self.path,
            limits,
            width: self.width,
            height: self.height,
            orientation: self.orientation(),
            patches: std::mem::take(&mut self.patches),
            pixels: self,
        };
        animation.read(selection)
    }

    /// Reads a still image. `taken` is the number of bytes that other frames of the clip need.
    pub(super) fn read_still(
        &self,
        taken: u128,
        limits: &ReadLimits,
    ) -> Result<RgbFrame, VideoError> {
        let check = |size| limits.check_picture(self.path, taken, size);
        let (size, samples, channels) = decode(self.path, self.bytes, check)?;
        Ok(RgbFrame {
            width: size.0 as usize,
            height: size.1 as usize,
            data: samples::to_rgb(self.path, samples, channels)?,
        })
    }
}

impl PatchDecoder for WebP<'_> {
    const REPLACES_CLEARED: bool = true;

    fn decode(&mut self, index: usize, patch: &Patch) -> Result<Vec<u8>, VideoError> {
        let part = &self.bytes[self.parts[index].clone()];
        let mut file = memory::with_capacity_for(self.path, part.len() + 30)?;
        file.extend_from_slice(b"RIFF");
        let extended = !part.starts_with(b"VP8L");
        let len = part.len() + if extended { 22 } else { 4 };
        file.extend_from_slice(&(len as u32).to_le_bytes());
        file.extend_from_slice(b"WEBP");
        if extended {
            let alpha = u8::from(part.starts_with(b"ALPH")) << 4;
            file.extend_from_slice(b"VP8X\x0a\0\0\0");
            file.extend_from_slice(&[alpha, 0, 0, 0]);
            for side in [patch.width, patch.height] {
                file.extend_from_slice(&(side - 1).to_le_bytes()[..3]);
            }
        }
        file.extend_from_slice(part);
        let expected = (patch.width, patch.height);
        let check = |found| match found == expected {
            true => Ok(()),
            false => Err(self.broken(format!("a frame of {expected:?}"), format!("{found:?}"))),
        };
        let (_, samples, channels) = decode(self.path, &file, check)?;
        samples::to_rgba(self.path, samples, channels)
    }

    /// Blends like libwebp, with colours that are not premultiplied by alpha.
    fn blend(below: [u8; 4], above: [u8; 4]) -> [u8; 4] {
        let alpha = u32::from(above[3]);
        if alpha == 0 {
            return below;
        }
        if alpha == 255 {
            return above;
        }
        let shown = (u32::from(below[3]) * (256 - alpha)) >> 8;
        let both = alpha + shown;
        let scale = (1 << 24) / both;
        let mixed = |above: u8, below: u8| {
            let sum = u32::from(above) * alpha + u32::from(below) * shown;
            ((u64::from(sum) * u64::from(scale)) >> 24) as u8
        };
        let [red, green, blue] = [0, 1, 2].map(|channel| mixed(above[channel], below[channel]));
        [red, green, blue, both as u8]
    }
}

/// Width and height, 8-bit samples, and the number of samples per pixel.
type Decoded = ((u32, u32), Vec<u8>, usize);

/// Decodes a still WebP. Calls `check` with its size first.
fn decode(
    path: &Path,
    file: &[u8],
    check: impl FnOnce((u32, u32)) -> Result<(), VideoError>,
) -> Result<Decoded, VideoError> {
    let failed = |source: DecodingError| VideoError::image(path, source);
    let mut decoder = WebPDecoder::new(Cursor::new(file)).map_err(failed)?;
    let size = decoder.dimensions();
    check(size)?;
    let len = decoder.output_buffer_size().unwrap_or(usize::MAX);
    let own = u64::from(size.0) * u64::from(size.1) * BYTES_PER_PIXEL + file.len() as u64;
    memory::check(path, own.saturating_add(len as u64))?;
    let mut samples = memory::zeroed(path, len)?;
    decoder.read_image(&mut samples).map_err(failed)?;
    Ok((size, samples, if decoder.has_alpha() { 4 } else { 3 }))
}
