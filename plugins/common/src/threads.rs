//! The thread pool of a plugin.

use crate::Result;
use merv_plugin_api::{HostServices, PluginError};

/// Gives this library's own rayon pool as many threads as the host allows.
///
/// # Errors
///
/// When the pool exists already or its threads cannot be started.
pub fn init(host: &HostServices) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(host.threads as usize)
        .thread_name(|index| format!("merv-plugin-{index}"))
        .build_global()
        .map_err(|error| {
            PluginError::unsupported("the plugin's thread pool cannot start").caused_by(&error)
        })
}
