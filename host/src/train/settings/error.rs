//! Errors of the settings of a run.

use crate::{settings_file::Problems, train::TrainingStage};
use std::{io, path::PathBuf};
use thiserror::Error;

/// Settings cannot be read or accepted.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("{}: cannot read the settings file\n  expected: a readable TOML file\n  \
             do: check that the path is right and that you may read it", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("{0}")]
    Invalid(Problems),
    /// A required key is missing.
    #[error(
        "`{key}` is missing: {}, `--stage {stage}`\n  expected: {what}\n  \
         do: write it into the file, or use --set {key}=…", .path.display()
    )]
    Missing {
        /// The settings file.
        path: PathBuf,
        /// The stage.
        stage: TrainingStage,
        /// The key.
        key: &'static str,
        /// The expected value.
        what: &'static str,
    },
}
