//! Why a checkpoint cannot be read.

use std::{io, path::PathBuf};

/// A checkpoint that cannot be read. Every message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// No file was given.
    #[error("no weights file was given")]
    NoFile,
    /// The file cannot be opened or mapped into memory.
    #[error("the weights file {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is damaged, cut off, or made to deceive.
    #[error("{} is no whole {format} file: {what}; fetch it again, or, if a training run made it, resume the run", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The format it claims to be in.
        format: &'static str,
        /// What is wrong: where, what was expected, what was found.
        what: String,
    },
    /// The file may be whole, but holds what this reader does not read.
    #[error("{}: {what}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected, and what to do.
        what: String,
    },
    /// Two files hold a tensor of the same name.
    #[error(
        "{}: tensor `{name}` is also in {}; expected each tensor once",
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
    /// Metadata of a GGUF file that is missing or of another type.
    #[error("{}: {what}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key, what was expected and what was found.
        what: String,
    },
}
