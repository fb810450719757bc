//! Copies videos from pipes to temporary files, because decoding requires seeking. The file has no name and
//! disappears when the process ends, even after a crash.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use super::error::VideoError;
use super::kind::{self, FileKind};
use super::limits::ReadLimits;
use super::{container, unreadable};

/// The path at which standard input can be opened if it is a file.
pub(super) const STANDARD_INPUT: &str = "/dev/stdin";

/// Whether the path means standard input.
pub fn is_standard_input(path: &Path) -> bool {
    ["-", STANDARD_INPUT, "/dev/fd/0", "/proc/self/fd/0"]
        .map(Path::new)
        .contains(&path)
}

/// The number of bytes after which the format is checked. FFmpeg reads no more to detect the format and the streams.
const HEAD: u64 = 8 << 20;

/// A copy of the data from a pipe.
pub(super) struct Spool {
    #[cfg(target_os = "linux")]
    file: File,
    #[cfg(not(target_os = "linux"))]
    file: tempfile::NamedTempFile,
}

impl Spool {
    /// Copies standard input up to its end.
    pub(super) fn standard_input(path: &Path, limits: &ReadLimits) -> Result<Self, VideoError> {
        let input = io::stdin();
        if input.is_terminal() {
            return Err(VideoError::Terminal);
        }
        Self::of(path, input.lock(), limits)
    }

    /// Copies a named pipe up to its end.
    pub(super) fn pipe(path: &Path, limits: &ReadLimits) -> Result<Self, VideoError> {
        let pipe = File::open(path).map_err(|source| unreadable(path, source))?;
        Self::of(path, pipe, limits)
    }

    fn of(path: &Path, mut pipe: impl Read, limits: &ReadLimits) -> Result<Self, VideoError> {
        let failed = |source| VideoError::Spool {
            path: path.to_owned(),
            folder: std::env::temp_dir(),
            source,
        };
        #[cfg(target_os = "linux")]
        let mut file = tempfile::tempfile().map_err(failed)?;
        #[cfg(not(target_os = "linux"))]
        let mut file = tempfile::NamedTempFile::new().map_err(failed)?;
        let most = limits.max_pipe_bytes.saturating_add(1);
        let head = most.min(HEAD);
        let mut bytes = io::copy(&mut pipe.by_ref().take(head), &mut file).map_err(failed)?;
        let spool = Self { file };
        if bytes == head {
            spool.check_format(path, limits)?;
            let rest = &mut pipe.by_ref().take(most - head);
            bytes += io::copy(rest, &mut &spool.file).map_err(failed)?;
        }
        limits.check_pipe(path, bytes)?;
        Ok(spool)
    }

    /// Refuses data that are not a video or an image, judging by the first bytes, because the pipe may never end.
    fn check_format(&self, path: &Path, limits: &ReadLimits) -> Result<(), VideoError> {
        let copy = self.path();
        let mut head = Vec::with_capacity(kind::HEAD);
        File::open(&copy)
            .and_then(|file| file.take(kind::HEAD as u64).read_to_end(&mut head))
            .map_err(|source| unreadable(&copy, source))?;
        match kind::detect(path, &head) {
            FileKind::OtherImage(name) => return Err(VideoError::other_image(path, name)),
            FileKind::Gif | FileKind::Image(_) => return Ok(()),
            FileKind::Video => {}
        }
        // Opening a video may require the rest of the data, so other errors are ignored here.
        match container::open(&copy, limits) {
            Err(error @ (VideoError::NotAVideo { .. } | VideoError::NoVideoStream { .. })) => {
                Err(error.with_path(path))
            }
            _ => Ok(()),
        }
    }

    /// Returns the path of the copy.
    pub(super) fn path(&self) -> PathBuf {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
        }
        #[cfg(not(target_os = "linux"))]
        self.file.path().to_owned()
    }
}
