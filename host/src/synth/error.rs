//! Why no data set came out.

use crate::disk::{whole_file::advice, write_lock::LockError};
use std::{io, path::PathBuf};

/// A data set cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// The folder holds something.
    #[error(
        "{} holds something already\n  do: name another folder in --out, or say --force to write over \
         what an earlier run left", .path.display()
    )]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Another process makes a data set there.
    #[error(transparent)]
    Held(#[from] LockError),
    /// A setting is wrong.
    #[error("{what}: {found}\n  expected: {expected}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// Its value.
        found: usize,
        /// What it may be.
        expected: &'static str,
    },
    /// This FFmpeg has no encoder that clips can be written with.
    #[error(
        "this FFmpeg can write neither H.264 (libx264) nor MPEG-4 video\n  \
         do: install an FFmpeg that can; Debian's can"
    )]
    NoEncoder,
    /// A clip cannot be encoded.
    #[error("{}: FFmpeg cannot {doing}", .path.display())]
    Encode {
        /// The clip.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What FFmpeg said.
        source: ffmpeg_next::Error,
    },
    /// A file cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl SynthError {
    pub(super) fn write(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Write { path, source }
    }
}
