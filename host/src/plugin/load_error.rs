//! Libraries that cannot be used as plugins.

use super::CallError;
use merv_plugin_api::{API_VERSION, MANIFEST_SECTION};
use std::{path::PathBuf, sync::Arc};
use thiserror::Error;

/// A library that cannot be used as a plugin.
#[derive(Debug, Clone, Error)]
pub enum LoadError {
    /// The file does not exist or cannot be read.
    #[error("the plugin {} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Arc<std::io::Error>,
    },
    /// The file is not a library that this machine can load.
    #[error("{} cannot be loaded: {reason}\n  do: build or download the plugin again, for this machine", .path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The library does not export a manifest.
    #[error(
        "{} is a library, but not a merv plugin: it has no section `{MANIFEST_SECTION}`\n  \
         do: use a library that was built with `merv_plugin_api::export_plugin!`", .path.display()
    )]
    NoManifest {
        /// The file.
        path: PathBuf,
    },
    /// The manifest cannot be read.
    #[error("{} has a manifest that cannot be read: {reason}\n  do: report it to the plugin's author", .path.display())]
    BadManifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The plugin was built against an API version that this host does not support.
    #[error(
        "{} was built against version {found} of the plugin API, but this host supports {API_VERSION}\n  \
         do: {advice}", .path.display()
    )]
    ApiVersion {
        /// The file.
        path: PathBuf,
        /// The plugin's API version.
        found: String,
        /// What to do.
        advice: &'static str,
    },
    /// The types of the plugin have a different layout.
    #[error(
        "{} states version {found} of the plugin API, but its types have another layout than those of version \
         {API_VERSION}: {detail}\n  do: rebuild it against merv-plugin-api {API_VERSION}", .path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// The plugin's API version.
        found: String,
        /// The difference.
        detail: String,
    },
    /// The initialisation of the plugin failed.
    #[error("{} was loaded, but did not start", .path.display())]
    Init {
        /// The file.
        path: PathBuf,
        /// The plugin's error.
        source: CallError,
    },
}
