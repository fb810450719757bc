//! Errors of drawing curves.

use crate::disk::whole_file::{advice, reading_advice};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Curves cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlotError {
    /// The metrics cannot be read.
    #[error(
        "{} cannot be read\n  expected: the metrics of a training run\n  do: give the folder of the run; {}",
        .path.display(),
        reading_advice(.source)
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A line is not a JSON object of metrics.
    #[error(
        "{}, line {line}: {why}\n  expected: one JSON object per line, with a whole number `step`\n  \
         do: remove the line, or restore the file", .path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
        /// The reason.
        why: String,
    },
    /// There is nothing to draw.
    #[error("{} contains no metrics yet\n  do: wait for the first steps of the run", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A picture cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl PlotError {
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Write { path, source }
    }
}
