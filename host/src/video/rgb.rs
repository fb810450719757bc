//! From the decoder's planes (mostly YUV 4:2:0) to packed RGB.

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use ffmpeg_next::software::scaling::{Context, Flags};
use ffmpeg_next::Error;

use super::RgbFrame;

/// Converts pictures, keeping the tables while the format stays the same.
#[derive(Default)]
pub(super) struct Converter {
    context: Option<Context>,
    picture: Option<Video>,
}

impl Converter {
    /// Turns a decoded picture to RGB and by `quarter_turns` clockwise.
    pub(super) fn convert(&mut self, frame: &Video, quarter_turns: u8) -> Result<RgbFrame, Error> {
        let (format, width, height) = (frame.format(), frame.width(), frame.height());
        let fits = |context: &Context| {
            let input = context.input();
            (input.format, input.width, input.height) == (format, width, height)
        };
        let context = match self.context.take().filter(fits) {
            Some(context) => context,
            None => {
                self.picture = None;
                // OpenCV's and PyAV's choice. For 8-bit YUV, where nothing is rescaled but chroma,
                // every choice but ACCURATE_RND and FULL_CHR_H_INT gives the same bytes.
                let flags = Flags::BICUBIC;
                Context::get(format, width, height, Pixel::RGB24, width, height, flags)?
            }
        };
        let context = self.context.insert(context);
        // An AVFrame of our own, not the final buffer: swscale may write past the end of a row that
        // is not padded.
        let picture =
            self.picture.get_or_insert_with(|| Video::new(Pixel::RGB24, width, height));
        if picture.planes() == 0 {
            return Err(Error::Other { errno: ffmpeg_next::error::ENOMEM });
        }
        context.run(frame, picture)?;

        let (width, height) = (width as usize, height as usize);
        let stride = picture.stride(0);
        let mut data = Vec::with_capacity(width * height * 3);
        for row in picture.data(0).chunks(stride.max(1)).take(height) {
            data.extend_from_slice(&row[..width * 3]);
        }
        Ok(turned(RgbFrame { width, height, data }, quarter_turns))
    }
}

/// The frame turned clockwise by `quarter_turns` · 90°.
fn turned(frame: RgbFrame, quarter_turns: u8) -> RgbFrame {
    let (w, h) = (frame.width, frame.height);
    let pixels = frame.data.as_chunks::<3>().0;
    let (width, height) = if quarter_turns % 2 == 1 { (h, w) } else { (w, h) };
    let source = |x: usize, y: usize| match quarter_turns % 4 {
        1 => (y, h - 1 - x),
        2 => (w - 1 - x, h - 1 - y),
        _ => (w - 1 - y, x),
    };
    if quarter_turns % 4 == 0 {
        return frame;
    }
    let data = (0..height)
        .flat_map(|y| (0..width).map(move |x| source(x, y)))
        .flat_map(|(x, y)| pixels[y * w + x])
        .collect();
    RgbFrame { width, height, data }
}
