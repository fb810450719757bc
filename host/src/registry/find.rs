//! From what the user wrote after `--registry` to a file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::error::RegistryError;
use crate::{installation::Places, nearest::near};

/// The registry used when none is named; its weights are in the repository.
pub const DEFAULT_REGISTRY: &str = "merv-tiny";

/// The registry that a training run and a conversion leave in their folders.
pub(crate) const FILE_OF_A_RUN: &str = "registry.toml";

/// The folders in which a registry's NAME is looked up, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath {
    folders: Vec<PathBuf>,
}

impl SearchPath {
    /// These folders and no others.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut unique: Vec<PathBuf> = Vec::new();
        for folder in folders {
            if !unique.contains(&folder) {
                unique.push(folder);
            }
        }
        Self { folders: unique }
    }

    /// `registry/` below the current folder; `share/merv/registry` in `$MERV_PREFIX`; around the running
    /// program `registry/` beside it, `../share/merv/registry`, and the workspace's `registry/` of a program
    /// that cargo built; the same around the merv-host in `PATH`, when another program runs; then the
    /// folders of `MERV_REGISTRY_PATH`.
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

    /// The folders, in the order in which they are searched.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The names of every registry in these folders, sorted.
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

/// The file that `wanted` means.
///
/// What ends in `.toml` or holds a path separator is a FILE, and is returned whatever it is, so
/// that reading it can say what is wrong; the folder of a training run or a conversion means the
/// registry in it. Anything else is a NAME: `NAME.toml` is looked up in
/// the folders of `search`.
///
/// # Errors
/// [`RegistryError::NotFound`], which lists where it looked and which names are close.
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
    near(name, &known).into_iter().map(str::to_owned).collect()
}

/// The names of the registries in a folder; none when it cannot be read.
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
