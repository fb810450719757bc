//! Encodes pictures as an mp4 file.

use super::SynthError;
use crate::disk::whole_file;
use ffmpeg_next::{
    Codec, Dictionary, Error, Packet, Rational,
    codec::{self, Flags as CodecFlags},
    encoder,
    format::{Flags as FormatFlags, Pixel, context::StreamIo, output_to_stream},
    frame::Video,
    log,
};
use std::{
    io::{self, Cursor, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

/// The video codec of clips.
#[derive(Clone, Copy)]
pub(super) struct ClipCodec {
    codec: Codec,
    /// Whether the codec is H.264, whose encoder has options that the MPEG-4 encoder lacks.
    is_h264: bool,
}

impl ClipCodec {
    /// Returns H.264 if the linked FFmpeg can encode it, or else MPEG-4.
    pub fn choose() -> Result<Self, SynthError> {
        static READY: Once = Once::new();
        READY.call_once(|| {
            // FFmpeg reports failures as errors too.
            log::set_level(log::Level::Quiet);
            ffmpeg_next::error::register_all();
        });
        let found = Self::h264().or_else(Self::mpeg4);
        found.ok_or(SynthError::NoEncoder)
    }

    fn h264() -> Option<Self> {
        let codec = encoder::find_by_name("libx264")?;
        let is_h264 = true;
        Some(Self { codec, is_h264 })
    }

    pub fn mpeg4() -> Option<Self> {
        let codec = encoder::find(codec::Id::MPEG4)?;
        let is_h264 = false;
        Some(Self { codec, is_h264 })
    }

    /// Returns the name of the codec.
    pub fn name(&self) -> &'static str {
        if self.is_h264 { "h264" } else { "mpeg4" }
    }

    /// Writes a clip of square pictures, each `[side, side, 3]`, atomically. The caller must have swept the folder.
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
        whole_file::write_unswept(path, &bytes).map_err(SynthError::write(path))
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
            .map_err(during("start an mp4 file"))?;
        let rate = Rational(frames_per_second, 1);
        let opened = self.open(side, rate, output.format().flags());
        let mut encoder = opened.map_err(during("open its encoder"))?;
        let begun = output.add_stream(self.codec).map(|mut stream| {
            stream.set_parameters(&encoder);
            stream.set_time_base(rate.invert());
            stream.set_avg_frame_rate(rate);
        });
        begun
            // Without the time and the version of FFmpeg, the same pictures give the same bytes.
            .and_then(|()| {
                output
                    .write_header_with(options(&[("fflags", "+bitexact")]))
                    .map(drop)
            })
            .map_err(during("start an mp4 file"))?;
        let time_base = output
            .stream(0)
            .map_or(rate.invert(), |stream| stream.time_base());

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
            let mut yuv = Video::new(Pixel::YUV420P, side as u32, side as u32);
            if yuv.planes() < 3 {
                let errno = ffmpeg_next::error::ENOMEM;
                return Err(("allocate a frame", Error::Other { errno }));
            }
            fill(&mut yuv, &picture, side);
            yuv.set_pts(Some(number as i64));
            encoder
                .send_frame(&yuv)
                .and_then(|()| drain(&mut encoder))
                .map_err(during("encode a frame"))?;
        }
        encoder
            .send_eof()
            .and_then(|()| drain(&mut encoder))
            .and_then(|()| output.write_trailer())
            .map_err(during("finish the file"))?;
        // FFmpeg flushes its buffers when it closes the file.
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
            // For identical bytes: the number of threads affects the output, and the macroblock tree of x264 reads
            // uninitialised memory.
            let options = options(&[
                ("crf", "14"),
                ("preset", "fast"),
                ("threads", "1"),
                ("x264-params", "mbtree=0:bframes=0"),
            ]);
            return encoder.open_with(options);
        }
        encoder.set_flags(flags | CodecFlags::QSCALE);
        // FF_QP2LAMBDA times the quantiser, which ranges from 1 to 31.
        encoder.set_global_quality(118 * 2);
        encoder.open_with(options(&[("threads", "1")]))
    }
}

/// Converts a picture to YUV 4:2:0 with the matrix of BT.601, which decoders assume if a file does not specify one.
fn fill(yuv: &mut Video, picture: &[u8], side: usize) {
    let pixels = picture.as_chunks::<3>().0;
    let weighted = |[r, g, b]: [f32; 3], [wr, wg, wb]: [f32; 3]| (wr * r + wg * g + wb * b) / 255.0;
    let planes = [
        (1, 16.0, [65.481, 128.553, 24.966]),
        (2, 128.0, [-37.797, -74.203, 112.0]),
        (2, 128.0, [112.0, -93.786, -18.214]),
    ];
    for (plane, (block, zero, weights)) in planes.into_iter().enumerate() {
        let (stride, length) = (yuv.stride(plane), side / block);
        let rows = yuv.data_mut(plane).chunks_mut(stride).take(length);
        for (row, values) in rows.enumerate() {
            for (column, value) in values.iter_mut().take(length).enumerate() {
                let mut sum = [0.0; 3];
                for y in row * block..(row + 1) * block {
                    for x in column * block..(column + 1) * block {
                        let pixel = pixels[y * side + x];
                        sum = [0, 1, 2].map(|i| sum[i] + f32::from(pixel[i]));
                    }
                }
                let mean = sum.map(|sum| sum / (block * block) as f32);
                *value = (zero + weighted(mean, weights)).round() as u8;
            }
        }
    }
}

fn options(pairs: &[(&str, &str)]) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    for (name, value) in pairs {
        options.set(name, value);
    }
    options
}

/// A file in memory that is shared with FFmpeg.
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
