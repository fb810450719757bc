//! Reads still images, and dispatches image files that are animations.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use image::{ImageDecoder, ImageError, ImageFormat, ImageReader};

use super::error::VideoError;
use super::jpeg::Jpeg;
use super::kind::{self, FileKind, StillFormat};
use super::limits::ReadLimits;
use super::orientation::Orientation;
use super::png::Png;
use super::webp::WebP;
use super::{Frames, RgbFrame, Selection, decode, gif, memory, samples, tiff, unreadable};

/// Reads an animation or a still image. A still image is one frame, repeated as often as frames are requested.
pub(super) fn read(
    path: &Path,
    selection: &Selection,
    limits: &ReadLimits,
) -> Result<Frames, VideoError> {
    let bytes = load(path, limits)?;
    let image = Image::parse(path, &bytes, limits)?;
    if image.is_animated() {
        return image.read_animation(selection, limits);
    }
    if matches!(&image.content, Content::Jpeg(jpeg) if jpeg.is_stream) {
        drop(image);
        drop(bytes);
        return decode::read(path, selection, limits);
    }
    if selection.has_window() {
        return Err(VideoError::WindowOfStill {
            path: path.to_owned(),
        });
    }
    let frame = Arc::new(image.read_still(0, limits)?);
    Ok(Frames {
        frames: vec![frame; selection.num_frames],
        indices: vec![0; selection.num_frames],
        seconds: vec![f64::NAN; selection.num_frames],
        total_frames: 1,
        fps: 0.0,
    })
}

/// Reads a still image as one of several frames. `taken` is the number of bytes that the others need.
pub(super) fn read_frame(
    path: &Path,
    taken: u128,
    limits: &ReadLimits,
) -> Result<RgbFrame, VideoError> {
    let animated = || VideoError::AnimationInFolder {
        path: path.to_owned(),
    };
    let bytes = load(path, limits)?;
    if kind::detect(path, &bytes) == FileKind::Gif {
        let found = gif::read(path, &Selection::new(1), limits)?;
        let still = found.frames.into_iter().next();
        let still = still
            .filter(|_| found.total_frames == 1)
            .ok_or_else(animated)?;
        limits.check_clip_bytes(path, taken.saturating_add(still.data.len() as u128))?;
        return Ok(Arc::unwrap_or_clone(still));
    }
    let image = Image::parse(path, &bytes, limits)?;
    if image.is_animated() {
        return Err(animated());
    }
    image.read_still(taken, limits)
}

/// An image file that is complete, as far as can be determined without decoding it.
struct Image<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    content: Content<'a>,
}

enum Content<'a> {
    Png(Png<'a>),
    WebP(WebP<'a>),
    Jpeg(Jpeg),
    Bmp,
    Tiff,
}

impl<'a> Image<'a> {
    fn parse(path: &'a Path, bytes: &'a [u8], limits: &ReadLimits) -> Result<Self, VideoError> {
        let content = match kind::detect(path, bytes) {
            FileKind::Image(StillFormat::Png) => Content::Png(Png::parse(path, bytes, limits)?),
            FileKind::Image(StillFormat::WebP) => Content::WebP(WebP::parse(path, bytes, limits)?),
            FileKind::Image(StillFormat::Jpeg) => Content::Jpeg(Jpeg::parse(path, bytes)?),
            FileKind::Image(StillFormat::Bmp) => {
                let side = |at: usize| bytes.get(at..at + 4)?.first_chunk().copied();
                // The 12-byte OS/2 header stores the sides in 16 bits.
                let is_long = bytes.get(14).is_some_and(|&size| size != 12);
                if let (true, Some(width), Some(height)) = (is_long, side(18), side(22)) {
                    let [width, height] =
                        [width, height].map(|side| i32::from_le_bytes(side).unsigned_abs());
                    limits.check_size(path, width.into(), height.into())?;
                }
                Content::Bmp
            }
            FileKind::Image(StillFormat::Tiff) => {
                tiff::check(path, bytes, limits)?;
                Content::Tiff
            }
            FileKind::OtherImage(name) => return Err(VideoError::other_image(path, name)),
            FileKind::Gif | FileKind::Video => {
                return Err(VideoError::NotAnImage {
                    path: path.to_owned(),
                });
            }
        };
        Ok(Self {
            path,
            bytes,
            content,
        })
    }

    fn is_animated(&self) -> bool {
        match &self.content {
            Content::Png(png) => png.is_animated(),
            Content::WebP(webp) => webp.is_animated(),
            Content::Jpeg(_) | Content::Bmp | Content::Tiff => false,
        }
    }

    fn read_animation(
        self,
        selection: &Selection,
        limits: &ReadLimits,
    ) -> Result<Frames, VideoError> {
        match self.content {
            Content::Png(png) => png.read_animation(selection, limits),
            Content::WebP(webp) => webp.read_animation(selection, limits),
            Content::Jpeg(_) | Content::Bmp | Content::Tiff => Err(VideoError::NoFrames {
                path: self.path.to_owned(),
            }),
        }
    }

    /// Decodes a still image like Pillow's `convert("RGB")` (drops the alpha channel, repeats grey), and applies the
    /// EXIF orientation.
    fn read_still(&self, taken: u128, limits: &ReadLimits) -> Result<RgbFrame, VideoError> {
        let decode = |format| decode_with(format, self.path, self.bytes, taken, limits);
        let (frame, orientation) = match &self.content {
            Content::Png(png) => (png.read_still(taken, limits)?, png.orientation()),
            Content::WebP(webp) => (webp.read_still(taken, limits)?, webp.orientation()),
            Content::Jpeg(jpeg) => (decode(ImageFormat::Jpeg)?.0, jpeg.orientation),
            Content::Bmp => decode(ImageFormat::Bmp)?,
            Content::Tiff => decode(ImageFormat::Tiff)?,
        };
        memory::check(self.path, frame.data.len() as u64)?;
        Ok(orientation.apply(frame))
    }
}

/// Reads an image file.
fn load(path: &Path, limits: &ReadLimits) -> Result<Vec<u8>, VideoError> {
    let unreadable = |source| unreadable(path, source);
    let mut file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    limits.check_image_bytes(path, size)?;
    if size == 0 {
        return Err(VideoError::EmptyFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = memory::zeroed(path, usize::try_from(size).unwrap_or(usize::MAX))?;
    file.read_exact(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Maximum memory that the decoders of the `image` crate allocate for a pixel, besides their output: the coefficients
/// of a progressive JPEG.
const BYTES_PER_PIXEL: u64 = 8;

/// Decodes an image with the `image` crate. Also returns its orientation, if the crate can read it.
fn decode_with(
    format: ImageFormat,
    path: &Path,
    bytes: &[u8],
    taken: u128,
    limits: &ReadLimits,
) -> Result<(RgbFrame, Orientation), VideoError> {
    let failed = |source: ImageError| match source {
        ImageError::Unsupported(_) => VideoError::unsupported_image(path, source),
        _ => VideoError::image(path, source),
    };
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format)
        .into_decoder()
        .map_err(failed)?;
    let size = decoder.dimensions();
    limits.check_picture(path, taken, size)?;
    let pixels = u64::from(size.0) * u64::from(size.1);
    let own = pixels * BYTES_PER_PIXEL + bytes.len() as u64 + (1 << 20);
    memory::check(path, own.saturating_add(decoder.total_bytes()))?;
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(own.saturating_add(decoder.total_bytes()));
    decoder.set_limits(bounds).map_err(failed)?;
    let orientation = decoder.orientation().map_err(failed)?.to_exif();

    let colour = decoder.color_type();
    let len = usize::try_from(decoder.total_bytes()).unwrap_or(usize::MAX);
    let mut samples = memory::zeroed(path, len)?;
    decoder.read_image(&mut samples).map_err(failed)?;
    let channels = usize::from(colour.channel_count());
    match colour.bytes_per_pixel() / colour.channel_count() {
        1 => {}
        2 => samples::upper_bytes(&mut samples),
        _ => {
            return Err(VideoError::unsupported_image(
                path,
                "its samples are floating-point numbers",
            ));
        }
    }
    let frame = RgbFrame {
        width: size.0 as usize,
        height: size.1 as usize,
        data: samples::to_rgb(path, samples, channels)?,
    };
    Ok((frame, Orientation::from_exif(orientation)))
}
