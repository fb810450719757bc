//! Why no picture came out.

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
        "{} cannot be read\n  expected: the metrics of a training run\n  do: name the run's folder; {}", .path.display(),
        reading_advice(.source)
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line is no JSON object of metrics.
    #[error(
        "{}, line {line}: {why}\n  expected: one JSON object a line, with a whole number `step`\n  \
         do: remove the line, or restore the file", .path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// There is nothing to draw.
    #[error("{} holds no metrics yet\n  do: wait for the first steps of the run", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A picture cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl PlotError {
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Write { path, source }
    }
}
