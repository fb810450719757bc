//! Errors of reading frames. Each states the file, what was expected, what was found and what to do.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::kind;
use crate::disk::whole_file::reading_advice;

/// The frames of a file or folder could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// The path does not exist.
    #[error(
        "{}: no such file or folder; expected a video, a GIF, an image or a folder of images: \
         check the path",
        path.display()
    )]
    Missing {
        /// The path.
        path: PathBuf,
    },

    /// The path is a link whose target does not exist.
    #[error(
        "{}: a link whose target does not exist; expected a link to a file or folder: fix or remove the link",
        path.display()
    )]
    Dangling {
        /// The link.
        path: PathBuf,
    },

    /// The path is a URL.
    #[error(
        "{}: a URL, but URLs are not downloaded; expected a file or folder: download the video first, for \
         example with `curl -LO`",
        path.display()
    )]
    Address {
        /// The path.
        path: PathBuf,
    },

    /// Standard input is a terminal.
    #[error(
        "standard input is a terminal; expected a video: redirect one to it (`< FILE` or a pipe)"
    )]
    Terminal,

    /// Standard input is a folder.
    #[error(
        "standard input is a folder; expected a video: pass the path of the folder instead of `-`"
    )]
    FolderAsInput,

    /// The data from a pipe could not be copied to a temporary file.
    #[error(
        "{}: the pipe could not be copied to a temporary file in {}: free some space there, or set TMPDIR to \
         another folder",
        path.display(), folder.display()
    )]
    Spool {
        /// The pipe.
        path: PathBuf,
        /// The folder of temporary files.
        folder: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },

    /// The path exists but cannot be read.
    #[error("{}: cannot be read: {}", path.display(), reading_advice(.source))]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },

    /// The path is not a file, a folder or a pipe (a socket, a device).
    #[error(
        "{}: expected a file, a folder or a pipe, found something else (a device or socket): copy the video to \
         a file first",
        path.display()
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// The path is a pipe, but the input must be readable several times.
    #[error(
        "{}: a pipe, which can be read only once; expected a file or a folder, because clips are read several \
         times and their features are cached by content: copy it to a file first",
        path.display()
    )]
    ReadOnce {
        /// The path.
        path: PathBuf,
    },

    /// The file has no bytes.
    #[error("{}: the file is empty (0 bytes), expected a video: download it again", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },

    /// The folder does not contain images.
    #[error(
        "{}: the folder does not contain images; expected files ending in {extensions}, whose names sort in the \
         order of the frames",
        path.display()
    )]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// The file extensions of images.
        extensions: String,
    },

    /// The file is not in a supported container format.
    #[error(
        "{}: not a video: expected a container such as mp4, mov, mkv, webm, avi, mpeg, ts or flv (or a GIF or an \
         image), found an unknown format; check that the contents of the file match its name, or convert it with \
         `ffmpeg -i IN OUT.mp4`",
        path.display()
    )]
    NotAVideo {
        /// The file.
        path: PathBuf,
        /// The error of FFmpeg.
        #[source]
        source: ffmpeg_next::Error,
    },

    /// The structure of the file is incomplete or broken.
    #[error(
        "{}: the {container} file is cut short or damaged: expected {expected}, found {found}; download the file \
         again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The name of the container.
        container: String,
        /// What a complete file contains.
        expected: String,
        /// What this file contains.
        found: String,
        /// The error of FFmpeg, if there is one.
        #[source]
        source: Option<ffmpeg_next::Error>,
    },

    /// The video is encrypted.
    #[error(
        "{}: the video is encrypted, and encrypted videos are not supported: use a copy without copy protection",
        path.display()
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
    },

    /// The container does not have a video stream.
    #[error(
        "{}: the file does not contain a video: expected a video stream, found {found}; use a file with video",
        path.display()
    )]
    NoVideoStream {
        /// The file.
        path: PathBuf,
        /// The streams found.
        found: String,
    },

    /// The video stream does not contain frames.
    #[error(
        "{}: the video stream does not contain frames: expected at least one; the recording was probably \
         interrupted: download the file again",
        path.display()
    )]
    NoFrames {
        /// The file.
        path: PathBuf,
    },

    /// FFmpeg does not have a decoder for the stream.
    #[error(
        "{}: the video uses the codec {codec}, for which this FFmpeg has no decoder; convert it with \
         `ffmpeg -i IN -c:v libx264 OUT.mp4` on a system that has one",
        path.display()
    )]
    UnsupportedCodec {
        /// The file.
        path: PathBuf,
        /// The name of the codec.
        codec: String,
    },

    /// A requested frame cannot be decoded.
    #[error(
        "{}: frame {frame} of {total} (at {seconds:.2} s) cannot be decoded: its data are damaged or missing; \
         download the file again, or choose another part of it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The frame, counted from 0 in presentation order.
        frame: usize,
        /// The number of frames.
        total: usize,
        /// The presentation time of the frame in seconds.
        seconds: f64,
        /// The error of the decoder, if there is one.
        #[source]
        source: Option<ffmpeg_next::Error>,
    },

    /// Any other error of FFmpeg.
    #[error("{}: {operation} failed", path.display())]
    Ffmpeg {
        /// The file.
        path: PathBuf,
        /// The operation that failed.
        operation: &'static str,
        /// The error of FFmpeg.
        #[source]
        source: ffmpeg_next::Error,
    },

    /// The image does not have any pixels.
    #[error(
        "{}: the image is {width}×{height}; expected at least one pixel: recreate the file",
        path.display()
    )]
    NoPixels {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u64,
        /// Height in pixels.
        height: u64,
    },

    /// The image uses an unsupported variant of its format.
    #[error(
        "{}: this kind of image is not supported; expected samples of 8 or 16 bits, grey or RGB: convert it, for \
         example to PNG",
        path.display()
    )]
    UnsupportedImage {
        /// The file.
        path: PathBuf,
        /// The error of the decoder.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// The image or animation cannot be decoded.
    #[error(
        "{}: the image cannot be decoded: it is cut short or damaged, or of an unsupported kind; download it \
         again, or convert it to PNG or JPEG",
        path.display()
    )]
    Image {
        /// The file.
        path: PathBuf,
        /// The error of the decoder.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// The image is in an unsupported format.
    #[error(
        "{}: {format} image, which is not supported; expected {} or a video: convert it, for example to PNG",
        path.display(), kind::SUPPORTED_IMAGES
    )]
    OtherImage {
        /// The file.
        path: PathBuf,
        /// The name of the format, with its article.
        format: &'static str,
    },

    /// The TIFF contains several images.
    #[error(
        "{}: a TIFF with several pages; expected one page: save the pages as separate files in a folder to use \
         them as frames",
        path.display()
    )]
    ManyPages {
        /// The file.
        path: PathBuf,
    },

    /// A file in a folder of images has the extension of an image but is not one.
    #[error(
        "{}: not an image, although its extension says so; expected {}: remove it from the folder or download it \
         again",
        path.display(), kind::SUPPORTED_IMAGES
    )]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },

    /// An image in a folder is in a format that is not supported for frames.
    #[error(
        "{}: an image in a format that is not supported in folders; expected JPEG, PNG, WebP, GIF, BMP or TIFF: \
         convert it, for example to PNG, or remove it from the folder",
        path.display()
    )]
    OtherFrame {
        /// The file.
        path: PathBuf,
    },

    /// A file in a folder of images is an animation.
    #[error(
        "{}: an animation in a folder of images; expected still images, each of which is one frame: pass the \
         animation itself, or remove it from the folder",
        path.display()
    )]
    AnimationInFolder {
        /// The file.
        path: PathBuf,
    },

    /// A time window was set for a still image.
    #[error(
        "{}: a still image has no duration; omit the start and the end of the time window",
        path.display()
    )]
    WindowOfStill {
        /// The file.
        path: PathBuf,
    },

    /// There is not enough memory for the contents of the file.
    #[error(
        "{}: out of memory: {bytes} bytes could not be allocated; free some memory, or use a smaller file",
        path.display()
    )]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// The size of the allocation.
        bytes: usize,
    },

    /// The time window starts after the last frame.
    #[error(
        "{}: the window starts at {start} s, but the video is only {length:.3} s long; choose an \
         earlier start",
        path.display()
    )]
    StartPastEnd {
        /// The file.
        path: PathBuf,
        /// The start of the window in seconds.
        start: f64,
        /// The length of the video in seconds.
        length: f64,
    },

    /// The time window ends before it starts.
    #[error(
        "{}: the window ends at {end} s, before its start at {start} s; swap them or omit one of them",
        path.display()
    )]
    EndBeforeStart {
        /// The file.
        path: PathBuf,
        /// The start of the window in seconds.
        start: f64,
        /// The end of the window in seconds.
        end: f64,
    },

    /// The time window starts before the first frame.
    #[error("{}: the window starts at {start} s; expected 0 or later", path.display())]
    NegativeStart {
        /// The file.
        path: PathBuf,
        /// The start of the window in seconds.
        start: f64,
    },

    /// A time window was set for a folder without a frame rate.
    #[error(
        "{}: a time window over a folder of images requires a frame rate, but none was given; set the rate with \
         `--folder-fps`, or omit the window",
        path.display()
    )]
    NoFolderRate {
        /// The folder.
        path: PathBuf,
    },

    /// The frame rate is not a positive number.
    #[error("{}: the frame rate must be a positive number, found {fps}", path.display())]
    BadFolderRate {
        /// The folder.
        path: PathBuf,
        /// The value found.
        fps: f64,
    },

    /// Zero frames were requested.
    #[error("{}: 0 frames were requested; request at least 1", path.display())]
    NoFramesRequested {
        /// The file.
        path: PathBuf,
    },

    /// The file exceeds one of the [`ReadLimits`](super::ReadLimits).
    #[error(
        "{}: {what}: found {found}, expected at most {limit}; raise the limit with `{flag}` if you trust the file",
        path.display()
    )]
    OverLimit {
        /// The file.
        path: PathBuf,
        /// The quantity that is too large.
        what: &'static str,
        /// Its value.
        found: String,
        /// Its limit.
        limit: u64,
        /// The option that raises the limit.
        flag: &'static str,
    },
}

/// Returns the error unless it is FFmpeg's generic one without a reason.
pub(super) fn with_reason(error: ffmpeg_next::Error) -> Option<ffmpeg_next::Error> {
    let nothing = ffmpeg_next::Error::Other { errno: 1 };
    Some(error).filter(|error| *error != nothing)
}

impl VideoError {
    /// Creates the error for an image that cannot be decoded.
    pub(super) fn image(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Image {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Creates the error for an unsupported variant of an image format.
    pub(super) fn unsupported_image(
        path: &Path,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::UnsupportedImage {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// Creates the error for a failed operation of FFmpeg. If FFmpeg returns no reason (−1, which the system calls
    /// `Operation not permitted`), the file is reported as damaged.
    pub(super) fn ffmpeg(path: &Path, operation: &'static str, source: ffmpeg_next::Error) -> Self {
        match with_reason(source) {
            Some(source) => Self::Ffmpeg {
                path: path.to_owned(),
                operation,
                source,
            },
            None => Self::Truncated {
                path: path.to_owned(),
                container: "video".into(),
                expected: "data that FFmpeg can decode".into(),
                found: format!("a failure while {operation}"),
                source: None,
            },
        }
    }

    /// Creates the error for an unsupported image format.
    pub(super) fn other_image(path: &Path, format: &'static str) -> Self {
        Self::OtherImage {
            path: path.to_owned(),
            format,
        }
    }

    /// Replaces the path of the error.
    pub(super) fn with_path(mut self, name: &Path) -> Self {
        match &mut self {
            Self::Missing { path, .. }
            | Self::Address { path, .. }
            | Self::Spool { path, .. }
            | Self::Unreadable { path, .. }
            | Self::NotAFile { path, .. }
            | Self::ReadOnce { path, .. }
            | Self::EmptyFile { path, .. }
            | Self::EmptyFolder { path, .. }
            | Self::NotAVideo { path, .. }
            | Self::Truncated { path, .. }
            | Self::Encrypted { path, .. }
            | Self::NoVideoStream { path, .. }
            | Self::NoFrames { path, .. }
            | Self::UnsupportedCodec { path, .. }
            | Self::Damaged { path, .. }
            | Self::Ffmpeg { path, .. }
            | Self::Image { path, .. }
            | Self::OtherImage { path, .. }
            | Self::NoPixels { path, .. }
            | Self::UnsupportedImage { path, .. }
            | Self::ManyPages { path, .. }
            | Self::NotAnImage { path, .. }
            | Self::AnimationInFolder { path, .. }
            | Self::OtherFrame { path, .. }
            | Self::Dangling { path, .. }
            | Self::WindowOfStill { path, .. }
            | Self::OutOfMemory { path, .. }
            | Self::StartPastEnd { path, .. }
            | Self::EndBeforeStart { path, .. }
            | Self::NegativeStart { path, .. }
            | Self::NoFolderRate { path, .. }
            | Self::BadFolderRate { path, .. }
            | Self::NoFramesRequested { path, .. }
            | Self::OverLimit { path, .. } => *path = name.to_owned(),
            Self::Terminal | Self::FolderAsInput => {}
        }
        self
    }
}

/// Creates the error for a file that cannot be opened.
pub(super) fn unreadable(path: &Path, source: std::io::Error) -> VideoError {
    let is_address = path.to_str().is_some_and(|path| {
        let (scheme, rest) = path.split_once("://").unwrap_or(("", ""));
        !rest.is_empty()
            && scheme.len() > 1
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound if is_address => VideoError::Address { path },
        io::ErrorKind::NotFound if path.is_symlink() => VideoError::Dangling { path },
        io::ErrorKind::NotFound => VideoError::Missing { path },
        _ => VideoError::Unreadable { path, source },
    }
}
