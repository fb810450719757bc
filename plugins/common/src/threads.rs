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

/// Runs a computation of many parallel steps on a thread of the pool.
///
/// From any other thread each step would wait for the pool to wake up and to report back, which for small
/// models takes longer than the steps.
pub fn on_pool<R: Send>(compute: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| compute())
}
