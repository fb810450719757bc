//! The file with the sizes of a model.

use merv_plugin_api::{ModelSource, PluginError};
use serde::de::DeserializeOwned;
use std::fs;

/// Reads the file, if the request has one.
pub fn read<T: DeserializeOwned>(model: &ModelSource) -> Result<Option<T>, PluginError> {
    let Some(path) = &model.config else {
        return Ok(None);
    };
    let text = fs::read_to_string(path)
        .map_err(|error| PluginError::weights(format!("{}: {error}", path.display())))?;
    let config = serde_json::from_str(&text).map_err(|error| {
        PluginError::weights(format!(
            "{}: this plugin does not build such a model: {error}",
            path.display()
        ))
    })?;
    Ok(Some(config))
}
