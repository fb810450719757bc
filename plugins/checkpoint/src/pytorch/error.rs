//! What can be wrong with a PyTorch file.

use crate::{CheckpointError, mapped::MappedFile};

const FORMAT: &str = "PyTorch";

/// An error of reading a PyTorch file, without the file's path.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The file is damaged or malicious.
    Damaged(String),
    /// The file may be complete, but has unsupported contents.
    Unsupported(String),
}

impl ReadError {
    pub(super) fn in_file(self, file: &MappedFile) -> CheckpointError {
        match self {
            Self::Damaged(what) => file.damaged(FORMAT, what),
            Self::Unsupported(what) => file.unsupported(what),
        }
    }
}

pub(super) fn big_endian() -> ReadError {
    ReadError::Unsupported("its numbers are big-endian; expected little-endian numbers".to_owned())
}

/// Returns the error of a damaged file.
pub(super) fn damaged(what: impl Into<String>) -> ReadError {
    ReadError::Damaged(what.into())
}
