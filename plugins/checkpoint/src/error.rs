//! Errors of reading a checkpoint.

use std::{io, path::PathBuf};

/// An error of reading a checkpoint. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The list of files is empty.
    #[error("expected at least one weights file, found none")]
    NoFile,
    /// The file cannot be opened or mapped into memory.
    #[error("the weights file {} cannot be opened; check its path and permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged, truncated, or malicious.
    #[error("{} is not a complete {format} file: {what}; fetch it again, or, if a training run wrote it, resume the run", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format that its first bytes indicate.
        format: &'static str,
        /// Where the error is, what was expected and what was found.
        what: String,
    },
    /// The file may be complete, but has contents that this reader does not support.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected, and what to do.
        what: String,
    },
    /// Two files contain a tensor of the same name.
    #[error(
        "{}: tensor `{name}` is also in {}; expected each tensor in one file only",
        path.display(),
        other.display()
    )]
    Twice {
        /// The tensor's name.
        name: String,
        /// The second file.
        path: PathBuf,
        /// The first file.
        other: PathBuf,
    },
    /// A metadata value of a GGUF file is missing or has another type.
    #[error("{}: {what}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key, what was expected and what was found.
        what: String,
    },
}
