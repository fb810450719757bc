//! The result of a plugin's fallible functions.

use merv_plugin_api::PluginError;

/// The result of a plugin's fallible functions.
pub type Result<T, E = PluginError> = std::result::Result<T, E>;
