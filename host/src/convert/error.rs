//! Errors of a conversion.

use crate::{
    disk::{whole_file::advice, write_lock::LockError},
    registry::RegistryError,
};
use merv_plugin_sdk::checkpoint::CheckpointError;
use std::{io, path::PathBuf};
use thiserror::Error;

/// The reason why a checkpoint was not converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint cannot be converted.
    #[error("{0}")]
    Refused(String),
    /// The folder exists, or contains files that must not be replaced.
    #[error("{} {what}", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// The problem, and what to do.
        what: String,
    },
    /// Another process is using the folder.
    #[error(transparent)]
    Held(#[from] LockError),
    /// A file cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The template, or the registry that was created from it, is invalid.
    #[error("the registry {} cannot be used as the template", path.display())]
    Template {
        /// The template.
        path: PathBuf,
        /// The cause.
        source: Box<RegistryError>,
    },
}

impl ConvertError {
    /// Returns a function for `map_err` that reports that `path` cannot be written.
    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}

impl ConvertError {
    /// Adds the paths of the checkpoint to the message.
    pub(super) fn about(self, paths: &[PathBuf]) -> Self {
        match self {
            Self::Refused(what) => {
                let paths = paths.iter().map(|path| path.display().to_string());
                let paths: Vec<_> = paths.collect();
                Self::Refused(format!("{}: {what}", paths.join(", ")))
            }
            other => other,
        }
    }
}
