//! From the decoder's planes (mostly YUV 4:2:0) to packed RGB.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::util::color;
use ffmpeg_next::{Error, ffi};

use super::RgbFrame;
use super::orientation::Orientation;

/// Converts pictures, keeping the tables while their form stays the same.
#[derive(Default)]
pub(super) struct Converter {
    tables: Option<(Form, Context)>,
    picture: Option<Video>,
}

/// All of a decoded picture that the conversion depends on, besides its pixels.
#[derive(Clone, Copy, PartialEq)]
struct Form {
    format: Pixel,
    width: u32,
    height: u32,
    /// Which YUV it is: of BT.601 where the file does not say.
    space: color::Space,
    /// Whether it spans 0 to 255 instead of 16 to 235.
    full_range: bool,
}

impl Form {
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
    /// Turns a decoded picture to RGB, oriented as it is to be shown.
    pub(super) fn convert(
        &mut self,
        frame: &Video,
        orientation: Orientation,
    ) -> Result<RgbFrame, Error> {
        let form = Form::of(frame);
        let tables = match self.tables.take().filter(|(known, _)| *known == form) {
            Some(tables) => tables,
            None => {
                self.picture = None;
                (form, scaler(form)?)
            }
        };
        let (_, context) = self.tables.insert(tables);
        // An AVFrame of its own, not the final buffer: swscale may write past the end of a row that
        // is not padded.
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

/// A scaler that changes nothing but the pixel format.
fn scaler(form: Form) -> Result<Context, Error> {
    let Form {
        format,
        width,
        height,
        space,
        full_range,
    } = form;
    // decord's choice. It shows only where chroma is interpolated: in 10-bit video and odd widths,
    // on which decord, PyAV and OpenCV do not agree.
    let flags = Flags::BILINEAR;
    let mut context = Context::get(format, width, height, Pixel::RGB24, width, height, flags)?;
    // SAFETY: the context is alive, each out-pointer is to a local of the type that is written, and
    // both tables point into static memory of swscale.
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
        // Refused for formats that are no YUV, where there is nothing to set.
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
