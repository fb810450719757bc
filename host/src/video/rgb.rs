//! Converts decoded frames (mostly YUV 4:2:0 planes) to packed RGB.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::util::color;
use ffmpeg_next::{Error, ffi};

use super::RgbFrame;
use super::orientation::Orientation;

/// Converts frames. Keeps the scaler while the pixel layout does not change.
#[derive(Default)]
pub(super) struct Converter {
    tables: Option<(PixelLayout, Context)>,
    picture: Option<Video>,
}

/// The properties of a decoded frame that the conversion depends on, besides its pixels.
#[derive(Clone, Copy, PartialEq)]
struct PixelLayout {
    format: Pixel,
    width: u32,
    height: u32,
    /// The YUV colour space. BT.601 if the file does not specify it.
    space: color::Space,
    /// Whether values range from 0 to 255 instead of 16 to 235.
    full_range: bool,
}

impl PixelLayout {
    fn of(frame: &Video) -> Self {
        Self {
            format: frame.format(),
            width: frame.width(),
            height: frame.height(),
            space: frame.color_space(),
            full_range: frame.color_range() == color::Range::JPEG,
        }
    }
}

impl Converter {
    /// Converts a decoded frame to RGB in display orientation.
    pub(super) fn convert(
        &mut self,
        frame: &Video,
        orientation: Orientation,
    ) -> Result<RgbFrame, Error> {
        let form = PixelLayout::of(frame);
        let tables = match self.tables.take().filter(|(known, _)| *known == form) {
            Some(tables) => tables,
            None => {
                self.picture = None;
                (form, scaler(form)?)
            }
        };
        let (_, context) = self.tables.insert(tables);
        // Not written to the final buffer directly: swscale may write past the end of rows without padding.
        let picture = self
            .picture
            .get_or_insert_with(|| Video::new(Pixel::RGB24, form.width, form.height));
        if picture.planes() == 0 {
            return Err(Error::Other {
                errno: ffmpeg_next::error::ENOMEM,
            });
        }
        context.run(frame, picture)?;

        let (width, height) = (form.width as usize, form.height as usize);
        let mut data = Vec::with_capacity(width * height * 3);
        for row in picture.data(0).chunks(picture.stride(0)).take(height) {
            data.extend_from_slice(&row[..width * 3]);
        }
        Ok(orientation.apply(RgbFrame {
            width,
            height,
            data,
        }))
    }
}

/// Creates a scaler that changes only the pixel format.
fn scaler(form: PixelLayout) -> Result<Context, Error> {
    let PixelLayout {
        format,
        width,
        height,
        space,
        full_range,
    } = form;
    // Same as decord. It matters only where chroma is interpolated: for 10-bit video and odd widths, for which
    // decord, PyAV and OpenCV differ.
    let flags = Flags::BILINEAR;
    let mut context = Context::get(format, width, height, Pixel::RGB24, width, height, flags)?;
    // SAFETY: the context is alive, each output pointer refers to a local variable of the written type, and both
    // tables point to static memory of swscale.
    unsafe {
        let raw = context.as_mut_ptr();
        let (mut inverse, mut table) = (std::ptr::null_mut(), std::ptr::null_mut());
        let (mut from_full, mut to_full) = (0, 0);
        let (mut brightness, mut contrast, mut saturation) = (0, 0, 0);
        let known = ffi::sws_getColorspaceDetails(
            raw,
            &mut inverse,
            &mut from_full,
            &mut table,
            &mut to_full,
            &mut brightness,
            &mut contrast,
            &mut saturation,
        );
        // It fails for formats other than YUV, for which nothing has to be set.
        if known >= 0 {
            let space: ffi::AVColorSpace = space.into();
            ffi::sws_setColorspaceDetails(
                raw,
                ffi::sws_getCoefficients(space as i32),
                i32::from(full_range || from_full != 0),
                table,
                to_full,
                brightness,
                contrast,
                saturation,
            );
        }
    }
    Ok(context)
}
