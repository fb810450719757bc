//! Finding plugins.

use crate::installation::{PREFIX_VARIABLE, Places};
use merv_architectures::nearest::nearest;
use std::{
    env::{
        consts::{DLL_PREFIX, DLL_SUFFIX},
        split_paths, var_os,
    },
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The environment variable with additional folders, separated as in `PATH`.
pub const PATH_VARIABLE: &str = "MERV_PLUGIN_PATH";

/// The folders in which plugins are looked up, in order.
#[derive(Debug, Clone, Default)]
pub struct PluginPath {
    folders: Vec<PathBuf>,
}

/// No folder contains a plugin with this name.
#[derive(Debug, Error)]
#[error(
    "there is no plugin `{name}`: no {file} in {looked}{near}\n  do: build it \
     (`cargo build --release -p merv-{name}`), or give its folder with --plugin-dir or ${PATH_VARIABLE}, \
     or the folder that merv-host is installed in with ${PREFIX_VARIABLE}"
)]
pub struct PluginNotFound {
    name: String,
    file: String,
    looked: String,
    near: String,
}

impl PluginPath {
    /// Returns the default search path after the folders `first`:
    ///
    /// * the folders of `$MERV_PLUGIN_PATH`;
    /// * `lib/merv` in `$MERV_PREFIX`;
    /// * the folder of the running program, and `lib/merv` and `../lib/merv` relative to it;
    /// * the same relative to the merv-host in `PATH`, if another program is running.
    pub fn from_env(first: &[PathBuf]) -> Self {
        let mut folders = first.to_vec();
        if let Some(list) = var_os(PATH_VARIABLE) {
            folders.extend(split_paths(&list).filter(|folder| !folder.as_os_str().is_empty()));
        }
        folders.extend(Places::from_env().plugins);
        Self { folders }
    }

    /// Returns the folders in search order.
    pub fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Returns the file of the plugin `name`.
    ///
    /// # Errors
    ///
    /// Returns an error if no folder has it. The message lists the folders and a similar name.
    pub fn find(&self, name: &str) -> Result<PathBuf, PluginNotFound> {
        let file = file_name(name);
        if let Some(found) = self
            .folders
            .iter()
            .map(|folder| folder.join(&file))
            .find(|path| path.is_file())
        {
            return Ok(found);
        }
        let known: Vec<_> = self
            .list()
            .iter()
            .filter_map(|path| plugin_name(path))
            .collect();
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        let near = nearest(name, &known)
            .map(|known| format!("; did you mean `{known}`?"))
            .unwrap_or_default();
        let looked: Vec<_> = self
            .folders
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Err(PluginNotFound {
            name: name.to_owned(),
            file,
            looked: looked.join(", "),
            near,
        })
    }

    /// Returns all files in the folders whose name is that of a plugin. If a name occurs several times, only
    /// the first file is returned.
    pub fn list(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = std::fs::read_dir(folder) else {
                continue;
            };
            let mut here: Vec<PathBuf> = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| plugin_name(path).is_some() && !path.is_dir())
                .collect();
            here.sort();
            for path in here {
                if !found
                    .iter()
                    .any(|other| other.file_name() == path.file_name())
                {
                    found.push(path);
                }
            }
        }
        found
    }
}

/// Returns the file name of a plugin on this system, such as `libmerv_<name>.so`.
pub fn file_name(name: &str) -> String {
    format!("{DLL_PREFIX}merv_{}{DLL_SUFFIX}", name.replace('-', "_"))
}

fn plugin_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let name = name
        .strip_prefix(DLL_PREFIX)?
        .strip_prefix("merv_")?
        .strip_suffix(DLL_SUFFIX)?;
    Some(name.replace('_', "-"))
}

/// Returns the name of a library for messages when its manifest cannot be read.
pub fn name_of(path: &Path) -> String {
    plugin_name(path).unwrap_or_else(|| path.display().to_string())
}
