//! What can be wrong with a registry, and how it is shown.

use crate::{messages::listed, settings_file::Problems};
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// A registry could not be found, read, or accepted.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No registry file goes by this name.
    #[error("{}", not_found(.name, .looked, .near, .known))]
    NotFound {
        /// What the user asked for.
        name: PathBuf,
        /// Every path that was tried.
        looked: Vec<PathBuf>,
        /// Registries whose names are close to the one asked for.
        near: Vec<String>,
        /// Every registry that could have been named.
        known: Vec<String>,
    },
    /// The file could not be read.
    #[error("{}: cannot read the registry file\n  expected: a readable TOML file\n  \
             do: check that the path is right and that you may read it", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file was read, and something in it is wrong.
    #[error("{0}")]
    Invalid(Problems),
}

impl From<Problems> for RegistryError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

fn not_found(name: &Path, looked: &[PathBuf], near: &[String], known: &[String]) -> String {
    let mut out = format!(
        "{}: there is no such registry\n  looked for:",
        name.display()
    );
    for path in looked {
        out.push_str(&format!("\n    {}", path.display()));
    }
    if !near.is_empty() {
        out.push_str(&format!("\n  did you mean: {}", listed(near)));
    }
    if !known.is_empty() {
        out.push_str(&format!("\n  known: {}", listed(known)));
    }
    out.push_str(
        "\n  do: give the path of a registry file (*.toml), one of the known names, \
         or add its folder to MERV_REGISTRY_PATH",
    );
    if known.is_empty() {
        out.push_str(
            ". merv-host's own registries are found when the folder it was installed into \
             (`make install PREFIX=DIR`) is in MERV_PREFIX, or the program merv-host in PATH",
        );
    }
    out
}
