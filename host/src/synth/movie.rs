//! Pictures to an mp4 file.

use super::SynthError;
use crate::whole_file;
use ffmpeg_next::{
    Codec, Dictionary, Error, Packet, Rational,
    codec::{self, Flags as CodecFlags},
    encoder,
    format::{Flags as FormatFlags, Pixel, context::StreamIo, output_to_stream},
    frame::Video,
    log,
    software::scaling::{Context as Scaler, Flags},
};
use std::{
    io::{self, Cursor, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

/// How clips are coded.
#[derive(Clone, Copy)]
pub(super) struct Coding {
    codec: Codec,
    /// H.264's encoder takes options that MPEG-4's does not know.
    is_h264: bool,
}

impl Coding {
    /// H.264 where the linked FFmpeg can, else MPEG-4.
    pub fn choose() -> Result<Self, SynthError> {
        static READY: Once = Once::new();
        READY.call_once(|| {
            // FFmpeg's complaints come as errors.
            log::set_level(log::Level::Quiet);
            ffmpeg_next::error::register_all();
        });
        let h264 = encoder::find_by_name("libx264").map(|codec| (codec, true));
        let mpeg4 = || encoder::find(codec::Id::MPEG4).map(|codec| (codec, false));
        let (codec, is_h264) = h264.or_else(mpeg4).ok_or(SynthError::NoEncoder)?;
        Ok(Self { codec, is_h264 })
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        if self.is_h264 { "h264" } else { "mpeg4" }
    }

    /// Writes a clip of square pictures, each `[side, side, 3]`. It is there whole or not at all.
    pub fn write(
        &self,
        path: &Path,
        side: usize,
        frames_per_second: i32,
        pictures: impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), SynthError> {
        let bytes = self
            .encode(side, frames_per_second, pictures)
            .map_err(|(doing, source)| SynthError::Encode {
                path: path.to_owned(),
                doing,
                source,
            })?;
        whole_file::write(path, &bytes).map_err(SynthError::write(path))
    }

    fn encode(
        &self,
        side: usize,
        frames_per_second: i32,
        pictures: impl Iterator<Item = Vec<u8>>,
    ) -> Result<Vec<u8>, (&'static str, Error)> {
        let during = |doing| move |source| (doing, source);
        let file = Memory::default();
        let stream = StreamIo::from_write_seek(file.clone());
        let mut output = stream
            .and_then(|stream| output_to_stream(stream, None, Some("mp4")))
            .map_err(during("begin an mp4 file"))?;
        let rate = Rational(frames_per_second, 1);
        let opened = self.open(side, rate, output.format().flags());
        let mut encoder = opened.map_err(during("open its encoder"))?;
        let begun = output.add_stream(self.codec).map(|mut stream| {
            stream.set_parameters(&encoder);
            stream.set_time_base(rate.invert());
            stream.set_avg_frame_rate(rate);
        });
        begun
            // Neither the time nor FFmpeg's version: the same pictures are the same bytes.
            .and_then(|()| {
                output
                    .write_header_with(options(&[("fflags", "+bitexact")]))
                    .map(drop)
            })
            .map_err(during("begin an mp4 file"))?;
        let time_base = output
            .stream(0)
            .map_or(rate.invert(), |stream| stream.time_base());

        let (width, flags) = (
            side as u32,
            Flags::BILINEAR | Flags::ACCURATE_RND | Flags::BITEXACT,
        );
        let mut scaler = Scaler::get(
            Pixel::RGB24,
            width,
            width,
            Pixel::YUV420P,
            width,
            width,
            flags,
        )
        .map_err(during("convert pictures"))?;
        let mut rgb = Video::new(Pixel::RGB24, width, width);
        let mut drain = |encoder: &mut encoder::Video| {
            let mut packet = Packet::empty();
            loop {
                match encoder.receive_packet(&mut packet) {
                    Ok(()) => {
                        packet.set_stream(0);
                        packet.set_duration(1);
                        packet.rescale_ts(rate.invert(), time_base);
                        packet.write_interleaved(&mut output)?;
                    }
                    Err(
                        Error::Eof
                        | Error::Other {
                            errno: ffmpeg_next::error::EAGAIN,
                        },
                    ) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        };
        for (number, picture) in pictures.enumerate() {
            let stride = rgb.stride(0);
            let rows = rgb.data_mut(0).chunks_mut(stride);
            for (row, pixels) in rows.zip(picture.chunks_exact(3 * side)) {
                row[..pixels.len()].copy_from_slice(pixels);
            }
            let mut yuv = Video::empty();
            scaler
                .run(&rgb, &mut yuv)
                .map_err(during("convert pictures"))?;
            yuv.set_pts(Some(number as i64));
            encoder
                .send_frame(&yuv)
                .and_then(|()| drain(&mut encoder))
                .map_err(during("encode it"))?;
        }
        encoder
            .send_eof()
            .and_then(|()| drain(&mut encoder))
            .and_then(|()| output.write_trailer())
            .map_err(during("finish it"))?;
        // What FFmpeg still holds back it writes when it lets go of the file.
        drop(output);
        Ok(std::mem::take(file.lock().get_mut()))
    }

    fn open(
        &self,
        side: usize,
        rate: Rational,
        format: FormatFlags,
    ) -> Result<encoder::Video, Error> {
        let context = codec::Context::new_with_codec(self.codec);
        let mut encoder = context.encoder().video()?;
        encoder.set_width(side as u32);
        encoder.set_height(side as u32);
        encoder.set_format(Pixel::YUV420P);
        encoder.set_time_base(rate.invert());
        encoder.set_frame_rate(Some(rate));
        let mut flags = CodecFlags::empty();
        if format.contains(FormatFlags::GLOBAL_HEADER) {
            flags |= CodecFlags::GLOBAL_HEADER;
        }
        if self.is_h264 {
            encoder.set_flags(flags);
            // The number of threads would show in the bytes.
            let options = options(&[("crf", "14"), ("preset", "fast"), ("threads", "1")]);
            return encoder.open_with(options);
        }
        encoder.set_flags(flags | CodecFlags::QSCALE);
        // FF_QP2LAMBDA times the quantiser, which goes from 1 to 31.
        encoder.set_global_quality(118 * 2);
        encoder.open_with(options(&[("threads", "1")]))
    }
}

fn options(pairs: &[(&str, &str)]) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    for (name, value) in pairs {
        options.set(name, value);
    }
    options
}

/// A file in memory that its writer and its maker share.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Cursor<Vec<u8>>>>);

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Cursor<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Memory {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.lock().seek(to)
    }
}
