//! What a plugin's fallible functions return.

use merv_plugin_api::PluginError;

/// What a plugin's fallible functions return.
pub type Result<T, E = PluginError> = std::result::Result<T, E>;
