//! What can be wrong with a data set.

use std::{io, path::PathBuf};
use thiserror::Error;

/// A data set cannot be used.
#[derive(Debug, Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("{}: cannot read the data set\n  expected: a readable file of examples, JSON or JSONL\n  \
             do: check that the path is right and that you may read it", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no list of examples.
    #[error("{}: {what}, at line {line}, column {column}\n  \
             expected: a JSON list of examples, `[{{…}}, {{…}}]`, or JSONL, an example `{{…}}` a line\n  \
             do: correct the file there, or make it anew", .path.display())]
    NoList {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// In which line, from 1 on.
        line: usize,
        /// At which of its bytes, from 1 on.
        column: usize,
    },
    /// There is nothing to train on.
    #[error(
        "{}: no example can be trained on{}\n  expected: at least one\n  \
         do: check that this is the file you meant", .path.display(), .first
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is wrong with the first one, if there is one.
        first: String,
    },
    /// An example that was there is not what it was.
    #[error("{}: the file has changed while it was used\n  do: start again", .0.display())]
    Changed(PathBuf),
    /// Too many examples are broken.
    #[error(
        "{broken} of {total} examples are broken, more than `max_bad_fraction = {fraction}` allows; the \
         latest:{latest}\n  do: repair the data set, or raise `max_bad_fraction`"
    )]
    TooManyBroken {
        /// How many are broken.
        broken: usize,
        /// How many there are.
        total: usize,
        /// How many there may be.
        fraction: f64,
        /// What was wrong with the latest ones.
        latest: String,
    },
}
