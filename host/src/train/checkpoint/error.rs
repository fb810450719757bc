//! Errors of writing and reading checkpoints.

use crate::{
    Error,
    disk::whole_file::{advice, reading_advice},
    messages::counted,
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// A checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk is full, or the folder cannot be written to.
    #[error(
        "{} cannot be written; the checkpoints before it are untouched\n  \
         do: {}, then continue with --resume", .path.display(), advice(.source)
    )]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{} cannot be read\n  do: {}", .path.display(), reading_advice(.source))]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something that is not a checkpoint has the name of one.
    #[error(
        "{} has the name of a checkpoint, but is not a folder\n  expected: a folder that the run wrote\n  \
         do: remove it, or give it another name", .0.display()
    )]
    NotACheckpoint(PathBuf),
    /// A file differs from what was written.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A file is as it was written, but not for the parameters that the part has now.
    #[error(
        "{} does not fit the model: {what}\n  \
         do: use the version of the plugin that the run began with, or start a new run", .path.display()
    )]
    OtherParameters {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// A weight is not a finite number.
    #[error(
        "`{tensor}` of the {part} has weights that are not finite numbers; the checkpoints before it are untouched\n  \
         do: continue with --resume and a lower `learning_rate`, or report it to the author of the plugin"
    )]
    NotFinite {
        /// The trained part: `mixer`, `llm` or `encoder-<id>`.
        part: String,
        /// The parameter.
        tensor: String,
    },
    /// There are checkpoints, and none of them can be used.
    #[error(
        "none of the {} in {} can be used\n  \
         do: restore one of them from a backup, or start a new run in another folder", counted(*.count, "checkpoint"), .path.display()
    )]
    AllDamaged {
        /// Their folder.
        path: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// A plugin or the mixer cannot export or import its state.
    #[error(transparent)]
    Model(#[from] Box<Error>),
}

impl From<Error> for CheckpointError {
    fn from(error: Error) -> Self {
        Self::Model(Box::new(error))
    }
}

pub(super) fn write_error(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Write { path, source }
}

pub(super) fn read_error(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Read { path, source }
}
