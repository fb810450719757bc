//! Finding the registry file for the value of `--registry`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error::RegistryError;
use crate::installation::Places;
use merv_architectures::nearest::close_matches;

/// The default registry. Its weights are in the repository.
pub const DEFAULT_REGISTRY: &str = "merv-tiny";

/// The file name of the registry that a training run or a conversion writes.
pub(crate) const FILE_OF_A_RUN: &str = "registry.toml";

/// The folders in which the NAME of a registry is looked up, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath {
    folders: Vec<PathBuf>,
}

impl SearchPath {
    /// Creates a search path with only these folders.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut unique: Vec<PathBuf> = Vec::new();
        for folder in folders {
            if !unique.contains(&folder) {
                unique.push(folder);
            }
        }
        Self { folders: unique }
    }

    /// Returns the default search path:
    ///
    /// * `registry/` in the current folder;
    /// * `share/merv/registry` in `$MERV_PREFIX`;
    /// * relative to the running program, `registry/` and `../share/merv/registry`, and the workspace's
    ///   `registry/` if cargo built the program;
    /// * the same relative to the merv-host in `PATH`, if another program is running;
    /// * the folders of `MERV_REGISTRY_PATH`.
    pub fn from_env() -> Self {
        let extra = std::env::var_os("MERV_REGISTRY_PATH");
        Self::from_parts(Places::from_env().registries, extra.as_deref())
    }

    pub(super) fn from_parts(around: Vec<PathBuf>, extra: Option<&OsStr>) -> Self {
        let extra = extra.map(|extra| std::env::split_paths(extra).collect::<Vec<_>>());
        let extra = extra.unwrap_or_default();
        let extra = extra.into_iter().filter(|p| !p.as_os_str().is_empty());
        let here = PathBuf::from("registry");
        Self::new([here].into_iter().chain(around).chain(extra))
    }

    /// Returns the folders in search order.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the names of all registries in these folders, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .folders
            .iter()
            .flat_map(|folder| names_in(folder))
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Finds the registry file for a FILE or NAME.
///
/// A value that ends in `.toml` or contains a path separator is a FILE. It is returned if anything exists
/// there; reading it reports what is wrong with it. For the folder of a training run or a conversion, the
/// registry in the folder is returned. Any other value is a NAME: `NAME.toml` is looked up in the folders of
/// `search`.
///
/// # Errors
/// Returns [`RegistryError::NotFound`], which lists the paths that were tried and similar names.
pub fn find(wanted: &Path, search: &SearchPath) -> Result<PathBuf, RegistryError> {
    let known = search.names();
    if is_file_argument(wanted) {
        let of_a_run = wanted.join(FILE_OF_A_RUN);
        if of_a_run.is_file() {
            return Ok(of_a_run);
        }
        if wanted.try_exists().unwrap_or(true) {
            return Ok(wanted.to_owned());
        }
        let stem = wanted
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let folder = match wanted.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut near: Vec<String> = close(&stem, &names_in(folder))
            .into_iter()
            .map(|name| folder.join(name + ".toml").display().to_string())
            .collect();
        near.extend(close(&stem, &known));
        let looked = vec![wanted.to_owned()];
        return Err(RegistryError::NotFound {
            name: wanted.to_owned(),
            looked,
            near,
            known,
        });
    }

    let mut file_name = wanted.as_os_str().to_owned();
    file_name.push(".toml");
    let looked: Vec<PathBuf> = search.folders.iter().map(|f| f.join(&file_name)).collect();
    if !wanted.as_os_str().is_empty()
        && let Some(path) = looked.iter().find(|path| path.exists())
    {
        return Ok(path.clone());
    }
    let near = close(&wanted.to_string_lossy(), &known);
    Err(RegistryError::NotFound {
        name: wanted.to_owned(),
        looked,
        near,
        known,
    })
}

fn is_file_argument(wanted: &Path) -> bool {
    let toml = wanted
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    toml || wanted
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .any(|b| std::path::is_separator((*b).into()))
}

fn close(name: &str, known: &[String]) -> Vec<String> {
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let close = close_matches(name, &known).into_iter();
    close.map(str::to_owned).collect()
}

/// Returns the names of the registries in a folder. The list is empty if the folder cannot be read.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .filter_map(|path| {
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        })
        .collect()
}
