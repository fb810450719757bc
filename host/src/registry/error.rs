//! The errors of reading a registry.

use crate::{messages::listed, settings_file::Problems};
use std::{
    io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// A registry was not found, cannot be read, or is not valid.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No registry has this name.
    #[error("{}", not_found(.name, .looked, .near, .known))]
    NotFound {
        /// The requested name.
        name: PathBuf,
        /// All paths that were tried.
        looked: Vec<PathBuf>,
        /// Registries with similar names.
        near: Vec<String>,
        /// All known registries.
        known: Vec<String>,
    },
    /// The file cannot be read.
    #[error("{}: cannot read the registry file\n  expected: a readable TOML file\n  \
             do: check the path and the permissions", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not valid.
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
            ". To find merv-host's own registries, set MERV_PREFIX to the folder it was installed into \
             (`make install PREFIX=DIR`), or add the program merv-host to PATH",
        );
    }
    out
}
