//! Errors of data sets.

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
    /// The file is not a list of examples.
    #[error("{}: {what}, at line {line}, column {column}\n  \
             expected: a JSON list of examples, `[{{…}}, {{…}}]`, or JSONL, one example `{{…}}` per line\n  \
             do: correct the file at this position, or create it again", .path.display())]
    NoList {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
        /// The line, counted from 1.
        line: usize,
        /// The byte in the line, counted from 1.
        column: usize,
    },
    /// None of the examples can be trained on.
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
    /// An example is not what it was when the file was indexed.
    #[error("{}: the file changed while it was used\n  do: start again", .0.display())]
    Changed(PathBuf),
    /// Too many examples are broken.
    #[error(
        "broken examples: {broken} of {total}, more than `max_bad_fraction = {fraction}` allows; the \
         latest:{latest}\n  do: repair the data set, or raise `max_bad_fraction`"
    )]
    TooManyBroken {
        /// The number of broken examples.
        broken: usize,
        /// The number of examples.
        total: usize,
        /// The fraction that may be broken.
        fraction: f64,
        /// The latest broken examples, with the reasons.
        latest: String,
    },
}
