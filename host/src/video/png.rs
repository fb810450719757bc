//! Reads PNG and APNG. An APNG stores its patches in extra chunks of an ordinary PNG. The chunks are parsed here,
//! and each patch is decoded as a separate PNG.

use std::io::Cursor;
use std::ops::Range;
use std::path::Path;

use png::{Decoder, DecodingError, Transformations};

use super::animation::{Animation, Disposal, Patch, PatchDecoder};
use super::error::VideoError;
use super::limits::ReadLimits;
use super::orientation::Orientation;
use super::{Frames, RgbFrame, Selection, memory, samples};

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";

/// Ancillary chunks that the image depends on.
const ESSENTIAL: [&[u8; 4]; 4] = [b"tRNS", b"acTL", b"fcTL", b"fdAT"];

/// Memory that a decoder needs besides a few rows, in bytes.
const DECODER_BYTES: u64 = 1 << 20;

/// A complete PNG.
pub(super) struct Png<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    width: u32,
    height: u32,
    /// The contents of IHDR.
    header: Range<usize>,
    /// The chunks before the pixels that define their colours.
    colours: Vec<Range<usize>>,
    /// Whether pixels may be transparent.
    has_alpha: bool,
    exif: Option<Range<usize>>,
    /// The number of frames that acTL declares.
    promised: Option<u32>,
    patches: Vec<Patch>,
    /// The contents of the pixel chunks of each patch.
    parts: Vec<Vec<Range<usize>>>,
}

impl<'a> Png<'a> {
    /// Parses the chunks.
    pub(super) fn parse(
        path: &'a Path,
        bytes: &'a [u8],
        limits: &ReadLimits,
    ) -> Result<Self, VideoError> {
        let mut png = Self {
            path,
            bytes,
            width: 0,
            height: 0,
            header: 0..0,
            colours: Vec::new(),
            has_alpha: false,
            exif: None,
            promised: None,
            patches: Vec::new(),
            parts: Vec::new(),
        };
        let mut at = SIGNATURE.len();
        let mut pixels_begun = false;
        let mut sequence = 0;
        loop {
            let chunk = at;
            let (kind, data) = png.chunk(&mut at)?;
            let whole = chunk..at;
            if chunk == SIGNATURE.len() && &kind != b"IHDR" {
                return Err(png.broken("the header (IHDR) as the first chunk", kind.escape_ascii()));
            }
            match &kind {
                b"IHDR" => {
                    png.width = png.word(&data, 0);
                    png.height = png.word(&data, 4);
                    limits.check_size(path, png.width.into(), png.height.into())?;
                    png.has_alpha = matches!(bytes.get(data.start + 9), Some(4 | 6));
                    png.header = data;
                }
                b"PLTE" | b"tRNS" if !pixels_begun => {
                    png.has_alpha |= &kind == b"tRNS";
                    memory::push(path, &mut png.colours, whole)?;
                }
                b"eXIf" => png.exif = Some(data),
                b"acTL" if !pixels_begun => png.promised = Some(png.word(&data, 0)),
                b"fcTL" if png.promised.is_some() => {
                    png.check_sequence(&data, &mut sequence)?;
                    limits.check_frames(path, png.patches.len() as u64 + 1)?;
                    let patch = png.patch(&data)?;
                    memory::push(path, &mut png.patches, patch)?;
                    memory::push(path, &mut png.parts, Vec::new())?;
                }
                b"IDAT" => {
                    pixels_begun = true;
                    // If the animation does not begin with this image, it is a fallback for
                    // programs without APNG support.
                    if let Some(parts) = png.parts.first_mut() {
                        memory::push(path, parts, data)?;
                    }
                }
                b"fdAT" if png.promised.is_some() => {
                    png.check_sequence(&data, &mut sequence)?;
                    let pixels = (data.start + 4).min(data.end)..data.end;
                    match png.parts.last_mut() {
                        Some(parts) => memory::push(path, parts, pixels)?,
                        None => return Err(png.broken("`fcTL` before `fdAT`", "none")),
                    }
                }
                b"IEND" => break,
                _ => {}
            }
        }
        if let Some(promised) = png.promised.filter(|&n| n as usize != png.patches.len()) {
            let found = format!("{} frames", png.patches.len());
            return Err(png.broken(format!("{promised} frames"), found));
        }
        if !pixels_begun {
            return Err(png.broken("pixels (IDAT)", "none"));
        }
        Ok(png)
    }

    /// Returns the type and contents of the chunk at `at`, and advances `at`.
    fn chunk(&self, at: &mut usize) -> Result<([u8; 4], Range<usize>), VideoError> {
        let cut = || VideoError::Truncated {
            path: self.path.to_owned(),
            container: "PNG".into(),
            expected: "chunks up to the end marker (IEND)".into(),
            found: format!("{} bytes without it", self.bytes.len()),
            source: None,
        };
        let word = |at: usize| self.bytes.get(at..at.checked_add(4)?)?.try_into().ok();
        let length: [u8; 4] = word(*at).ok_or_else(cut)?;
        let kind: [u8; 4] = word(*at + 4).ok_or_else(cut)?;
        let start = *at + 8;
        let end = start
            .checked_add(u32::from_be_bytes(length) as usize)
            .ok_or_else(cut)?;
        let sum: [u8; 4] = word(end).ok_or_else(cut)?;
        let matters = kind[0].is_ascii_uppercase() || ESSENTIAL.contains(&&kind);
        if matters && crc32fast::hash(&self.bytes[*at + 4..end]) != u32::from_be_bytes(sum) {
            let kind = kind.escape_ascii();
            return Err(self.broken("chunks that match their checksums", {
                format!("a `{kind}` chunk at byte {at} that does not")
            }));
        }
        *at = end + 4;
        Ok((kind, start..end))
    }

    fn broken(&self, expected: impl ToString, found: impl ToString) -> VideoError {
        VideoError::Truncated {
            path: self.path.to_owned(),
            container: "PNG".into(),
            expected: expected.to_string(),
            found: found.to_string(),
            source: None,
        }
    }

    /// Returns the big-endian number at `at` in a chunk's contents, or 0 past the end.
    fn word(&self, data: &Range<usize>, at: usize) -> u32 {
        let bytes = self.bytes[data.clone()].get(at..at + 4);
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map_or(0, u32::from_be_bytes)
    }

    fn check_sequence(&self, data: &Range<usize>, next: &mut u32) -> Result<(), VideoError> {
        let found = self.word(data, 0);
        if found != *next {
            let expected = format!("chunk {next} of the animation");
            return Err(self.broken(expected, format!("chunk {found}")));
        }
        *next += 1;
        Ok(())
    }

    fn patch(&self, data: &Range<usize>) -> Result<Patch, VideoError> {
        if data.len() != 26 {
            let found = format!("{} bytes", data.len());
            return Err(self.broken("26 bytes that describe a frame", found));
        }
        let [width, height, x, y] = [4, 8, 12, 16].map(|at| self.word(data, at));
        let within =
            |at: u32, len: u32, all: u32| at.checked_add(len).is_some_and(|end| end <= all);
        if !within(x, width, self.width) || !within(y, height, self.height) {
            let expected = format!("frames within {}×{}", self.width, self.height);
            let found = format!("{width}×{height} at {x}, {y}");
            return Err(self.broken(expected, found));
        }
        let delay = self.word(data, 20);
        let (delay, per_second) = (delay >> 16, delay & 0xffff);
        let first = self.patches.is_empty();
        let disposal = match self.bytes[data.start + 24] {
            1 => Disposal::Clear,
            // The canvas is clear before the first frame.
            2 if first => Disposal::Clear,
            2 => Disposal::Restore,
            _ => Disposal::Keep,
        };
        let replaces = self.bytes[data.start + 25] == 0;
        Ok(Patch {
            x,
            y,
            width,
            height,
            seconds: f64::from(delay) / f64::from(if per_second == 0 { 100 } else { per_second }),
            disposal,
            opaque: replaces || !self.has_alpha || first,
        })
    }

    /// Returns the orientation of the image.
    pub(super) fn orientation(&self) -> Orientation {
        let exif = self.exif.clone().map(|exif| &self.bytes[exif]);
        exif.map_or_else(Orientation::default, Orientation::from_exif_block)
    }

    pub(super) fn is_animated(&self) -> bool {
        self.promised.is_some()
    }

    /// Reads the chosen frames of an animation.
    pub(super) fn read_animation(
        mut self,
        selection: &Selection,
        limits: &ReadLimits,
    ) -> Result<Frames, VideoError> {
        let patches = std::mem::take(&mut self.patches);
        let animation = Animation {
            path: self.path,
            limits,
            width: self.width,
            height: self.height,
            orientation: self.orientation(),
            patches,
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
        limits.check_picture(self.path, taken, (self.width, self.height))?;
        let (samples, channels) = decode(self.path, self.bytes)?;
        Ok(RgbFrame {
            width: self.width as usize,
            height: self.height as usize,
            data: samples::to_rgb(self.path, samples, channels)?,
        })
    }

    /// Builds a PNG that contains only the pixels of one patch.
    fn alone(&self, index: usize, patch: &Patch) -> Result<Vec<u8>, VideoError> {
        let parts = &self.parts[index];
        let len: usize = parts.iter().map(|part| part.len() + 12).sum();
        let colours: usize = self.colours.iter().map(Range::len).sum();
        let mut file = memory::with_capacity_for(self.path, len + colours + 64)?;
        file.extend_from_slice(SIGNATURE);
        let mut header = self.bytes[self.header.clone()].to_vec();
        header[..4].copy_from_slice(&patch.width.to_be_bytes());
        header[4..8].copy_from_slice(&patch.height.to_be_bytes());
        put(&mut file, b"IHDR", &header);
        for chunk in &self.colours {
            file.extend_from_slice(&self.bytes[chunk.clone()]);
        }
        for part in parts {
            put(&mut file, b"IDAT", &self.bytes[part.clone()]);
        }
        put(&mut file, b"IEND", &[]);
        Ok(file)
    }
}

impl PatchDecoder for Png<'_> {
    fn decode(&mut self, index: usize, patch: &Patch) -> Result<Vec<u8>, VideoError> {
        let (samples, channels) = decode(self.path, &self.alone(index, patch)?)?;
        samples::to_rgba(self.path, samples, channels)
    }

    /// Blends like Pillow's paste with a mask.
    fn blend(below: [u8; 4], above: [u8; 4]) -> [u8; 4] {
        let alpha = u32::from(above[3]);
        let mixed = |below: u8, above: u8| {
            let sum = u32::from(above) * alpha + u32::from(below) * (255 - alpha) + 128;
            (((sum >> 8) + sum) >> 8) as u8
        };
        std::array::from_fn(|channel| mixed(below[channel], above[channel]))
    }
}

/// Appends a chunk.
fn put(file: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    file.extend_from_slice(&(data.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend_from_slice(kind);
    file.extend_from_slice(data);
    let sum = crc32fast::hash(&file[start..]);
    file.extend_from_slice(&sum.to_be_bytes());
}

/// Decodes a PNG to 8-bit samples. Also returns the number of samples per pixel. 16-bit samples keep their upper
/// 8 bits, as in libpng.
fn decode(path: &Path, file: &[u8]) -> Result<(Vec<u8>, usize), VideoError> {
    let failed = |source: DecodingError| VideoError::image(path, source);
    let mut decoder = Decoder::new(Cursor::new(file));
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(failed)?;
    let len = reader.output_buffer_size().unwrap_or(usize::MAX);
    memory::check(path, (len as u64).saturating_add(DECODER_BYTES))?;
    let mut samples = memory::zeroed(path, len)?;
    reader.next_frame(&mut samples).map_err(failed)?;
    Ok((samples, reader.output_color_type().0.samples()))
}
