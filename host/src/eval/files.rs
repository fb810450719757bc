//! The files of an evaluation: written atomically, and errors that name them.

use super::EvalError;
use crate::disk::{whole_file, write_lock::LockError};
use merv_checkpoint::text::{NotUtf8, is_utf16, without_mark};
use std::{fs, io, path::Path};

/// Replaces a file atomically.
pub(super) fn replace(path: &Path, content: &[u8]) -> Result<(), EvalError> {
    whole_file::write(path, content).map_err(|source| unwritable(path, source))
}

pub(super) fn read_if_there(path: &Path) -> Result<Option<String>, EvalError> {
    match fs::read(path) {
        Ok(bytes) if is_utf16(&bytes) => Err(unreadable(path, NotUtf8::Utf16.into())),
        // A truncated end may not be valid UTF-8.
        Ok(bytes) => {
            let text = without_mark(&bytes);
            Ok(Some(String::from_utf8_lossy(text).into_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(path, source)),
    }
}

pub(super) fn unwritable(path: &Path, source: io::Error) -> EvalError {
    EvalError::Write {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn damaged(path: &Path, place: &str) -> EvalError {
    EvalError::Damaged {
        path: path.to_owned(),
        place: place.to_owned(),
    }
}

pub(super) fn held(error: LockError) -> EvalError {
    EvalError::Held(Box::new(error))
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> EvalError {
    EvalError::Read {
        path: path.to_owned(),
        source,
    }
}
