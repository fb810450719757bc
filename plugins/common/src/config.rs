//! Config files beside the weights: Hugging Face's and timm's `config.json`.

use crate::Result;
use merv_plugin_api::PluginError;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads a JSON config file.
///
/// # Errors
///
/// When the file cannot be read, is no JSON, or lacks what `T` needs; the message names the file and
/// the place in it.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        PluginError::weights(format!("the config file {} cannot be read", path.display()))
            .caused_by(&error)
    })?;
    serde_json::from_str(&text).map_err(|error| {
        PluginError::weights(format!("the config file {} does not fit", path.display()))
            .caused_by(&error)
    })
}

/// An error unless `ok`: a config value that makes no model.
///
/// # Errors
///
/// When `ok` is false, with what `message` says.
pub fn require(ok: bool, message: impl FnOnce() -> String) -> Result<()> {
    if ok {
        Ok(())
    } else {
        Err(PluginError::weights(message()))
    }
}
