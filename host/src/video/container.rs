//! Opens containers with FFmpeg. A hostile file can fail, but cannot do anything else.
//!
//! `unsafe` is used only where ffmpeg-next has no safe function.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::ptr;
use std::sync::Once;

use ffmpeg_next::codec::packet::{Ref, side_data};
use ffmpeg_next::codec::{self, threading};
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::{Dictionary, Error, Packet, Stream, decoder, ffi, media};

use super::error::VideoError;
use super::ffmpeg_log;
use super::fill_check;
use super::limits::ReadLimits;
use super::mp4;
use super::orientation::Orientation;

/// The allowed demuxers. Playlists and concatenations (hls, dash, concat, image2, …) are excluded because they
/// refer to other files.
const FORMATS: &str = "mov,mp4,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg,ivf,h264,hevc,\
                       av1,obu,vc1,m4v,mjpeg,mxf,nut,dv,yuv4mpegpipe,rm,mp3,wav,flac,aac";

/// Codecs whose decoders draw each frame over the previous one. If a key frame is damaged, parts of the previous
/// frame remain without an error.
const PAINT_OVER: [codec::Id; 6] = [
    codec::Id::CINEPAK,
    codec::Id::MSRLE,
    codec::Id::MSVIDEO1,
    codec::Id::QTRLE,
    codec::Id::RPZA,
    codec::Id::SMC,
];

/// Whether the packets are in another order than their frames are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reordering {
    /// The header or the first packets indicate reordering.
    pub(super) is_seen: bool,
    /// The codec supports reordering.
    pub(super) is_possible: bool,
}

/// An open container and its video stream.
pub(super) struct Container {
    pub(super) input: Input,
    /// The index of the video stream.
    pub(super) stream: usize,
    /// Average frames per second.
    pub(super) fps: Option<f64>,
    pub(super) reordering: Reordering,
    /// Whether decoding can begin at packets flagged as key frames. In an AVI without an index, all packets are
    /// flagged.
    pub(super) keys_are_reliable: bool,
    /// The orientation of frames that do not have their own.
    pub(super) orientation: Orientation,
    /// Length of a tick of the timestamps in seconds.
    pub(super) tick: f64,
}

/// Opens the file, finds its video stream, and checks the declared size.
pub(super) fn open(path: &Path, limits: &ReadLimits) -> Result<Container, VideoError> {
    static READY: Once = Once::new();
    READY.call_once(|| {
        ffmpeg_log::install();
        // Without this, FFmpeg's errors have no messages.
        ffmpeg_next::error::register_all();
    });

    let about = mp4::inspect(path, limits)?;
    let mut input = open_input(path).map_err(|source| about.explain(path, source))?;
    let has_index =
        input.format().name() != "avi" || input.streams().any(|stream| is_indexed(&stream));
    // The size in the container is checked here, and the size of the first frames below.
    for stream in input.streams() {
        check_pixels(path, &stream, limits)?;
    }
    probe(&mut input, limits).map_err(|source| about.explain(path, source))?;
    let Some(stream) = main_stream(&input, &about) else {
        return Err(VideoError::NoVideoStream {
            path: path.to_owned(),
            found: listed(&input),
        });
    };

    // Matroska's demuxer sets this for a stream that it does not decrypt.
    if stream.metadata().get("enc_key_id").is_some() {
        return Err(VideoError::Encrypted {
            path: path.to_owned(),
        });
    }
    let delay = check_pixels(path, &stream, limits)?;
    let rate = |r: ffmpeg_next::Rational| {
        let (num, den) = (r.numerator(), r.denominator());
        (num > 0 && den > 0).then(|| f64::from(num) / f64::from(den))
    };
    let fps = rate(stream.avg_frame_rate()).or_else(|| rate(stream.rate()));
    let orientation = orientation(&stream);
    let tick = f64::from(stream.time_base());
    let codec = stream.parameters().id();
    let reordering = Reordering {
        is_seen: delay > 0,
        is_possible: has_property(codec, ffi::AV_CODEC_PROP_REORDER),
    };
    let keys_are_reliable = has_index || has_property(codec, ffi::AV_CODEC_PROP_INTRA_ONLY);
    let keys_are_reliable = keys_are_reliable && !PAINT_OVER.contains(&codec);
    let stream = stream.index();
    let mut container = Container {
        input,
        stream,
        fps,
        reordering,
        keys_are_reliable,
        orientation,
        tick,
    };
    container.ignore_other_streams();
    Ok(container)
}

/// Returns the stream that a player shows: FFmpeg's choice, unless it is a cover, thumbnails, a tile of an image,
/// or the alpha or depth of another stream.
fn main_stream<'a>(input: &'a Input, about: &mp4::Mp4Summary) -> Option<Stream<'a>> {
    let aside = ffi::AV_DISPOSITION_ATTACHED_PIC
        | ffi::AV_DISPOSITION_TIMED_THUMBNAILS
        | ffi::AV_DISPOSITION_DEPENDENT;
    let is_shown = |stream: &Stream<'_>| {
        // SAFETY: the stream is alive, and a plain integer is read.
        let disposition = unsafe { (*stream.as_ptr()).disposition };
        disposition & aside == 0 && !about.is_auxiliary(stream.id())
    };
    let best = input.streams().best(media::Type::Video);
    best.filter(is_shown).or_else(|| {
        let mut videos = input
            .streams()
            .filter(|stream| stream.parameters().medium() == media::Type::Video);
        videos.find(is_shown)
    })
}

/// Whether the file is a stream of JPEGs. Single JPEGs are handled elsewhere. FFmpeg would mistake a stream of
/// small JPEGs for a sequence of files.
fn is_motion_jpeg(path: &Path) -> bool {
    let mut head = [0; 3];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut head))
        .is_ok_and(|()| head == *b"\xff\xd8\xff")
}

/// Checks the declared size of a stream. Returns the number of frames that its decoder holds back.
fn check_pixels(path: &Path, stream: &Stream<'_>, limits: &ReadLimits) -> Result<i32, VideoError> {
    let parameters = stream.parameters();
    // SAFETY: `parameters` keeps its AVCodecParameters alive, and only plain integers are read.
    let (width, height, delay) = unsafe {
        let raw = parameters.as_ptr();
        ((*raw).width, (*raw).height, (*raw).video_delay)
    };
    let length = |side: i32| u64::try_from(side).unwrap_or(0);
    limits.check_pixels(path, length(width), length(height))?;
    Ok(delay)
}

/// Calls `avformat_open_input`, for local files and known formats only.
fn open_input(path: &Path) -> Result<Input, Error> {
    // With this prefix, FFmpeg treats the rest as a file name, even if it looks like a URL.
    let url = [b"file:", path.as_os_str().as_encoded_bytes()].concat();
    let url = CString::new(url).map_err(|_| Error::Other {
        errno: ffmpeg_next::error::EINVAL,
    })?;
    let mut options = Dictionary::new();
    options.set("protocol_whitelist", "file");
    options.set("format_whitelist", FORMATS);

    let format = if is_motion_jpeg(path) {
        // SAFETY: the name is NUL-terminated; FFmpeg returns null or a static description.
        unsafe { ffi::av_find_input_format(c"mjpeg".as_ptr()) }
    } else {
        ptr::null()
    };
    // SAFETY: `url` is NUL-terminated and outlives the call. `disown` releases `options`, and `own` takes the
    // remaining options back. On failure, avformat_open_input frees what it allocated. On success, `Input::wrap`
    // takes ownership and closes it.
    unsafe {
        let mut context = ptr::null_mut();
        let mut raw = options.disown();
        let code = ffi::avformat_open_input(&mut context, url.as_ptr(), format, &mut raw);
        drop(Dictionary::own(raw));
        if code < 0 {
            return Err(Error::from(code));
        }
        Ok(Input::wrap(context))
    }
}

/// Calls `avformat_find_stream_info`. FFmpeg reads the first frames, and decodes them if necessary, to find what
/// the header does not specify. The limit on pixels applies here too.
fn probe(input: &mut Input, limits: &ReadLimits) -> Result<(), Error> {
    let mut raw: Vec<*mut ffi::AVDictionary> = (0..input.nb_streams())
        .map(|_| {
            // SAFETY: `own` takes each dictionary back below.
            unsafe { decoder_options(limits).disown() }
        })
        .collect();
    // SAFETY: the context is open, and `raw` has one dictionary for each of its streams, as the function requires.
    let code = unsafe { ffi::avformat_find_stream_info(input.as_mut_ptr(), raw.as_mut_ptr()) };
    for dictionary in raw {
        // SAFETY: created by `disown` above. The call leaves only unused options in it.
        drop(unsafe { Dictionary::own(dictionary) });
    }
    if code < 0 {
        Err(Error::from(code))
    } else {
        Ok(())
    }
}

/// The decoder's limit is slightly higher than the configured one, because coded frames are padded to whole blocks.
/// The exact limit is checked on every decoded frame.
fn decoder_options(limits: &ReadLimits) -> Dictionary<'static> {
    let room = limits
        .max_pixels
        .saturating_add(limits.max_pixels / 8)
        .saturating_add(1 << 16);
    let mut options = Dictionary::new();
    options.set("max_pixels", &room.min(i32::MAX as u64).to_string());
    options
}

impl Container {
    /// Returns FFmpeg's name for the format of the container.
    pub(super) fn format_name(&self) -> String {
        self.input.format().description().to_owned()
    }

    /// Whether the file was read to its end.
    pub(super) fn is_at_end(&self) -> bool {
        // SAFETY: the context is open, its `pb` is null or alive, and both are only read.
        unsafe {
            let file = (*self.input.as_ptr()).pb;
            !file.is_null() && ffi::avio_feof(file) != 0
        }
    }

    /// Opens a decoder for the video stream.
    pub(super) fn decoder(
        &self,
        path: &Path,
        limits: &ReadLimits,
    ) -> Result<decoder::Video, VideoError> {
        let Some(stream) = self.input.stream(self.stream) else {
            return Err(VideoError::NoVideoStream {
                path: path.to_owned(),
                found: "none".into(),
            });
        };
        let ffmpeg = |source| VideoError::ffmpeg(path, "opening the video decoder", source);
        let mut context =
            codec::context::Context::from_parameters(stream.parameters()).map_err(ffmpeg)?;
        let id = context.id();
        let Some(codec) = decoder::find(id) else {
            let codec = id.name().to_owned();
            return Err(VideoError::UnsupportedCodec {
                path: path.to_owned(),
                codec,
            });
        };
        // With several threads, the output of these decoders is not deterministic where packets are missing (VP8) or
        // damaged (MPEG-4), and they do not always report an error.
        let count = match id {
            codec::Id::VP8 | codec::Id::MPEG4 => 1,
            _ => limits.decoder_threads(),
        };
        let kind = threading::Type::Frame;
        context.set_threading(threading::Config {
            kind,
            count,
            ..Default::default()
        });
        if fill_check::is_needed(id) {
            fill_check::mark_buffers(&mut context);
        }
        let mut decoder = context.decoder();
        decoder.set_packet_time_base(stream.time_base());
        decoder
            .open_as_with(codec, decoder_options(limits))
            .and_then(|opened| opened.video())
            .map_err(ffmpeg)
    }

    /// Seeks to the last position at or before `timestamp` (in the stream's time base) at which decoding can start,
    /// according to the container.
    pub(super) fn seek(&mut self, timestamp: i64) -> Result<(), Error> {
        // SAFETY: the context is open, and `stream` is a stream of it.
        let code = unsafe {
            ffi::av_seek_frame(
                self.input.as_mut_ptr(),
                self.stream as i32,
                timestamp,
                ffi::AVSEEK_FLAG_BACKWARD,
            )
        };
        if code < 0 {
            Err(Error::from(code))
        } else {
            Ok(())
        }
    }

    /// Makes the demuxer skip audio and subtitles.
    fn ignore_other_streams(&mut self) {
        let count = self.input.nb_streams() as usize;
        for other in (0..count).filter(|&index| index != self.stream) {
            // SAFETY: `other` is less than nb_streams, so the pointer refers to a live AVStream. Nothing else
            // refers to it while `self` is borrowed mutably.
            unsafe {
                let stream = *(*self.input.as_mut_ptr()).streams.add(other);
                (*stream).discard = ffi::AVDiscard::AVDISCARD_ALL;
            }
        }
    }
}

/// Whether the packet is only decoded as a reference and not shown. ffmpeg-next does not expose this flag.
pub(super) fn is_hidden(packet: &Packet) -> bool {
    // SAFETY: the packet is alive, and a plain integer is read.
    let flags = unsafe { (*packet.as_ptr()).flags };
    flags & ffi::AV_PKT_FLAG_DISCARD != 0
}

/// Whether the container has an index of this stream's packets before any was read.
fn is_indexed(stream: &Stream<'_>) -> bool {
    // SAFETY: the stream is alive, and is only read.
    unsafe { ffi::avformat_index_get_entries_count(stream.as_ptr()) > 0 }
}

/// Whether the codec has a property, one of `AV_CODEC_PROP_…`. Unknown codecs have all.
fn has_property(codec: codec::Id, property: i32) -> bool {
    // SAFETY: FFmpeg returns null or a pointer to static memory, from which a plain integer is read.
    unsafe {
        let about = ffi::avcodec_descriptor_get(codec.into());
        about.is_null() || (*about).props & property != 0
    }
}

/// Whether the container marks the packet as encrypted (MP4's Common Encryption).
pub(super) fn is_encrypted(packet: &Packet) -> bool {
    let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_ENCRYPTION_INFO;
    // SAFETY: the packet is alive, the size may be null, and the pointer is only compared.
    unsafe { !ffi::av_packet_get_side_data(packet.as_ptr(), kind, ptr::null_mut()).is_null() }
}

/// Lists the streams, such as "audio (aac)", for the error of a file without video.
fn listed(input: &Input) -> String {
    let names: Vec<String> = input
        .streams()
        .map(|stream| {
            let parameters = stream.parameters();
            // SAFETY: FFmpeg returns a static string, or null for an unknown type.
            let kind = unsafe {
                let name = ffi::av_get_media_type_string(parameters.medium().into());
                if name.is_null() {
                    "unknown".into()
                } else {
                    CStr::from_ptr(name).to_string_lossy()
                }
            };
            let cover = stream.disposition().contains(Disposition::ATTACHED_PIC);
            let kind = if cover { "cover picture".into() } else { kind };
            format!("{kind} ({})", parameters.id().name())
        })
        .collect();
    if names.is_empty() {
        "no streams".into()
    } else {
        names.join(", ")
    }
}

/// Returns the orientation in the container. Phones store it instead of rotating the frames.
fn orientation(stream: &Stream<'_>) -> Orientation {
    stream
        .side_data()
        .find(|data| data.kind() == side_data::Type::DisplayMatrix)
        .map_or_else(Orientation::default, |data| {
            Orientation::from_display_matrix(data.data())
        })
}
