//! Why a checkpoint is not converted.

use crate::{
    disk::{hold::HoldError, whole_file::advice},
    registry::RegistryError,
};
use merv_plugin_sdk::checkpoint::CheckpointError;
use std::{io, path::PathBuf};
use thiserror::Error;

/// A checkpoint that is not converted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint can be read, but not converted.
    #[error("{0}")]
    Refused(String),
    /// The folder is there already, or holds what is not to be replaced.
    #[error("{} {what}", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// Another conversion makes the folder.
    #[error(transparent)]
    Held(#[from] HoldError),
    /// A file cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The registry that should be the template is none, or the one made of it would be none.
    #[error("the registry {} cannot be the template", path.display())]
    Template {
        /// The template.
        path: PathBuf,
        /// Why not.
        source: Box<RegistryError>,
    },
}

impl ConvertError {
    /// For `map_err`: that `path` cannot be written.
    pub(super) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}

impl ConvertError {
    /// Names the checkpoint in what is wrong with it.
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
