//! Errors of generating a data set.

use crate::disk::{whole_file::advice, write_lock::LockError};
use std::{io, path::PathBuf};

/// The reason why a data set could not be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// The folder is not empty.
    #[error(
        "{} is not empty\n  do: set --out to another folder, or use --force to overwrite the files of an earlier run",
        .path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is using the folder.
    #[error(transparent)]
    Held(#[from] LockError),
    /// A setting is out of range.
    #[error("{what}: {found}\n  expected: {expected}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The accepted values.
        expected: &'static str,
    },
    /// This FFmpeg has no suitable video encoder.
    #[error(
        "this FFmpeg can encode neither H.264 (libx264) nor MPEG-4 video\n  \
         do: install an FFmpeg with one of these encoders, such as that of Debian"
    )]
    NoEncoder,
    /// A clip cannot be encoded.
    #[error("{}: FFmpeg cannot {doing}", .path.display())]
    Encode {
        /// The clip.
        path: PathBuf,
        /// The step that failed.
        doing: &'static str,
        /// The error of FFmpeg.
        source: ffmpeg_next::Error,
    },
    /// A file cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl SynthError {
    pub(super) fn write(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Write { path, source }
    }
}
