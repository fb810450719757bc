//! Everything that can keep a file from becoming frames, each said in full: which file, what was
//! expected, what was found, what to do.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use super::kind;
use crate::disk::whole_file::reading_advice;

/// Why no frames came out of a file or folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// Nothing lies at the path.
    #[error(
        "{}: no such file or folder; expected a video, a GIF, an image or a folder of images: \
         check the path",
        path.display()
    )]
    Missing {
        /// What was asked for.
        path: PathBuf,
    },

    /// A link to nothing lies at the path.
    #[error(
        "{}: a link to something that is not there; expected a link to a file or folder: make it anew, or remove it",
        path.display()
    )]
    Dangling {
        /// The link.
        path: PathBuf,
    },

    /// An address on the network where a file is expected.
    #[error(
        "{}: an address, and addresses are not fetched; expected a file or folder: download the \
         video first, for example with `curl -LO`, and give the file",
        path.display()
    )]
    Address {
        /// What was asked for.
        path: PathBuf,
    },

    /// Standard input is a terminal, where no video comes from.
    #[error(
        "standard input is a terminal; expected a video: redirect one to it (`< FILE`, or a pipe)"
    )]
    Terminal,

    /// Standard input is a folder.
    #[error(
        "standard input is a folder; expected a video: give the path of the folder in place of `-`"
    )]
    FolderAsInput,

    /// What came through a pipe could not be kept.
    #[error(
        "{}: the pipe could not be copied to a temporary file in {}: make room there, or name \
         another folder with TMPDIR",
        path.display(), folder.display()
    )]
    Spool {
        /// The pipe.
        path: PathBuf,
        /// Where temporary files are kept.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// Something lies at the path, but the system would not let it be read.
    #[error("{}: cannot be read: {}", path.display(), reading_advice(.source))]
    Unreadable {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },

    /// The path is neither a file, a folder nor a pipe (a socket, a device).
    #[error(
        "{}: expected a file, a folder or a pipe, found something else (a device or socket): copy \
         the clip to a file first",
        path.display()
    )]
    NotAFile {
        /// What was asked for.
        path: PathBuf,
    },

    /// A pipe where a file may be read more than once.
    #[error(
        "{}: a pipe, which can be read only once; expected a file or a folder, because clips are read \
         again and their features are kept by their content: copy it to a file first",
        path.display()
    )]
    ReadOnce {
        /// What was asked for.
        path: PathBuf,
    },

    /// The file has no bytes.
    #[error("{}: the file is empty (0 bytes), expected a video: fetch it again", path.display())]
    EmptyFile {
        /// The file.
        path: PathBuf,
    },

    /// A folder without a single image.
    #[error(
        "{}: the folder holds no images; expected files ending in {extensions}, \
         named so that sorting by name puts them in order",
        path.display()
    )]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
        /// The endings that count as images.
        extensions: String,
    },

    /// The bytes are no container that is read here.
    #[error(
        "{}: not a video: expected a container such as mp4, mov, mkv, webm, avi, mpeg, ts or flv \
         (or a GIF or an image), found none of them; check that the file is what its name says, or \
         convert it with `ffmpeg -i IN OUT.mp4`",
        path.display()
    )]
    NotAVideo {
        /// The file.
        path: PathBuf,
        /// What FFmpeg said.
        #[source]
        source: ffmpeg_next::Error,
    },

    /// A container whose inner tables are missing or broken.
    #[error(
        "{}: the {container} file is cut short or damaged: expected {expected}, found {found}; \
         fetch the file again",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The container's name.
        container: String,
        /// What a whole file would have.
        expected: String,
        /// What this one has.
        found: String,
        /// What FFmpeg said, where it said anything.
        #[source]
        source: Option<ffmpeg_next::Error>,
    },

    /// The pictures are encrypted.
    #[error(
        "{}: the video is encrypted, and reading encrypted videos is not supported: give a copy \
         without copy protection",
        path.display()
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
    },

    /// A container with sound or text only.
    #[error(
        "{}: the file holds no video: expected a video stream, found {found}; give a file with \
         pictures",
        path.display()
    )]
    NoVideoStream {
        /// The file.
        path: PathBuf,
        /// The streams there are.
        found: String,
    },

    /// A video stream without a single frame.
    #[error(
        "{}: the video stream holds no frames: expected at least one; the recording was probably \
         interrupted: fetch the file again",
        path.display()
    )]
    NoFrames {
        /// The file.
        path: PathBuf,
    },

    /// FFmpeg here has no decoder for the stream.
    #[error(
        "{}: the video is coded as {codec}, for which this FFmpeg has no decoder; convert it with \
         `ffmpeg -i IN -c:v libx264 OUT.mp4` where one is installed",
        path.display()
    )]
    UnsupportedCodec {
        /// The file.
        path: PathBuf,
        /// The codec's name.
        codec: String,
    },

    /// A frame that was asked for does not decode.
    #[error(
        "{}: frame {frame} of {total} (at {seconds:.2} s) does not decode: its data are damaged or \
         missing; fetch the file again, or choose another part of it",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The frame, counted from 0 in the order of presentation.
        frame: usize,
        /// How many frames there are.
        total: usize,
        /// When the frame is shown, in seconds.
        seconds: f64,
        /// What the decoder said, where it said anything.
        #[source]
        source: Option<ffmpeg_next::Error>,
    },

    /// FFmpeg failed in a way that fits none of the others.
    #[error("{}: {doing} failed", path.display())]
    Ffmpeg {
        /// The file.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What FFmpeg said.
        #[source]
        source: ffmpeg_next::Error,
    },

    /// A picture without a single pixel.
    #[error(
        "{}: the picture is {width}×{height}; expected at least one pixel: make the file anew",
        path.display()
    )]
    NoPixels {
        /// The file.
        path: PathBuf,
        /// Pixels a row.
        width: u64,
        /// Rows.
        height: u64,
    },

    /// An image of a kind that its format knows and that is not read.
    #[error(
        "{}: an image of a kind that is not read; expected samples of 8 or 16 bits, grey or RGB: convert it, for \
         example to PNG",
        path.display()
    )]
    UnsupportedImage {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// An image or animation does not decode.
    #[error(
        "{}: the image does not decode: it is cut short or damaged, or of an unsupported kind; fetch \
         it again or convert it to PNG or JPEG",
        path.display()
    )]
    Image {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    /// An image in a format that is not read.
    #[error(
        "{}: {format} image, a format that is not read; expected {} or a video: convert it, for \
         example to PNG",
        path.display(), kind::READ
    )]
    OtherImage {
        /// The file.
        path: PathBuf,
        /// The format's name, with its article.
        format: &'static str,
    },

    /// A TIFF of several pictures.
    #[error(
        "{}: a TIFF of several pages, of which only one can be a picture; save them as files of a \
         folder, which are frames then",
        path.display()
    )]
    ManyPages {
        /// The file.
        path: PathBuf,
    },

    /// A file in a folder of images whose name ends like an image's, but whose bytes are none.
    #[error(
        "{}: not an image, though its name ends like one; expected {}: take it out of the folder \
         or fetch it again",
        path.display(), kind::READ
    )]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },

    /// An image in a folder that cannot be a frame.
    #[error(
        "{}: an image of a kind that cannot be a frame of a folder; expected JPEG, PNG, WebP, GIF, BMP or TIFF: \
         convert it, for example to PNG, or take it out of the folder",
        path.display()
    )]
    OtherFrame {
        /// The file.
        path: PathBuf,
    },

    /// An animation where each file is one frame.
    #[error(
        "{}: an animation among the images of a folder, each of which is one frame; give the \
         animation alone, or take it out of the folder",
        path.display()
    )]
    AnimationInFolder {
        /// The file.
        path: PathBuf,
    },

    /// A time window over a still image.
    #[error(
        "{}: a still image has no time to choose from; leave the start and the end out",
        path.display()
    )]
    WindowOfStill {
        /// The file.
        path: PathBuf,
    },

    /// There is not enough memory for what the file holds.
    #[error(
        "{}: out of memory: {bytes} bytes are needed at once and could not be allocated; free some \
         memory, or give a smaller file",
        path.display()
    )]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// What was asked of the system.
        bytes: usize,
    },

    /// The time window opens after the last frame.
    #[error(
        "{}: the window starts at {start} s, but the video is only {length:.3} s long; choose an \
         earlier start",
        path.display()
    )]
    StartPastEnd {
        /// The file.
        path: PathBuf,
        /// Where the window starts, in seconds.
        start: f64,
        /// How long the video is, in seconds.
        length: f64,
    },

    /// The time window closes before it opens.
    #[error(
        "{}: the window ends at {end} s, before its start at {start} s; exchange them or leave one \
         out",
        path.display()
    )]
    EndBeforeStart {
        /// The file.
        path: PathBuf,
        /// Where the window starts, in seconds.
        start: f64,
        /// Where it ends, in seconds.
        end: f64,
    },

    /// The time window opens before the first frame.
    #[error("{}: the window starts at {start} s; expected 0 or later", path.display())]
    NegativeStart {
        /// The file.
        path: PathBuf,
        /// Where the window starts, in seconds.
        start: f64,
    },

    /// A time window over a folder whose frame rate nobody stated.
    #[error(
        "{}: a time window over a folder of images needs their frame rate, and none was given; \
         state the rate with `--folder-fps`, or leave the window out",
        path.display()
    )]
    NoFolderRate {
        /// The folder.
        path: PathBuf,
    },

    /// A frame rate that is not a positive number.
    #[error("{}: the frame rate must be a positive number, found {fps}", path.display())]
    BadFolderRate {
        /// The folder.
        path: PathBuf,
        /// What was given.
        fps: f64,
    },

    /// Nothing was asked for.
    #[error("{}: 0 frames were asked for; ask for at least 1", path.display())]
    NoFramesAsked {
        /// The file.
        path: PathBuf,
    },

    /// The file asks for more than [`Limits`](super::Limits) grants.
    #[error(
        "{}: {what}: {found}, over the limit of {limit}; raise it with `{flag}` if the file is \
         trustworthy",
        path.display()
    )]
    OverLimit {
        /// The file.
        path: PathBuf,
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: String,
        /// How large it may be.
        limit: u64,
        /// The option that raises the limit.
        flag: &'static str,
    },
}

/// An error of FFmpeg, if it says something.
pub(super) fn said(error: ffmpeg_next::Error) -> Option<ffmpeg_next::Error> {
    let nothing = ffmpeg_next::Error::Other { errno: 1 };
    Some(error).filter(|error| *error != nothing)
}

impl VideoError {
    /// An image that does not decode.
    pub(super) fn image(path: &Path, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Image {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// An image of a kind that is not read.
    pub(super) fn unsupported_image(
        path: &Path,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::UnsupportedImage {
            path: path.to_owned(),
            source: source.into(),
        }
    }

    /// What FFmpeg said while something was done with a file. Where it fails without a reason (its −1, which the system
    /// calls `Operation not permitted`), the file is to blame.
    pub(super) fn ffmpeg(path: &Path, doing: &'static str, source: ffmpeg_next::Error) -> Self {
        match said(source) {
            Some(source) => Self::Ffmpeg {
                path: path.to_owned(),
                doing,
                source,
            },
            None => Self::Truncated {
                path: path.to_owned(),
                container: "video".into(),
                expected: "data that FFmpeg understands".into(),
                found: format!("a failure while {doing}"),
                source: None,
            },
        }
    }

    /// An image in a format that is not read.
    pub(super) fn other_image(path: &Path, format: &'static str) -> Self {
        Self::OtherImage {
            path: path.to_owned(),
            format,
        }
    }

    /// The same error about another path.
    pub(super) fn about(mut self, name: &Path) -> Self {
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
            | Self::NoFramesAsked { path, .. }
            | Self::OverLimit { path, .. } => *path = name.to_owned(),
            Self::Terminal | Self::FolderAsInput => {}
        }
        self
    }
}

/// Why the file cannot be opened.
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
