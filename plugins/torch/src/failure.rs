//! Errors of libtorch as errors of a plugin.

use merv_plugin_api::{ErrorKind, PluginError};
use tch::TchError;

/// An error of a computation.
#[derive(Debug)]
pub struct Failure(PluginError);

pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl From<PluginError> for Failure {
    fn from(error: PluginError) -> Self {
        Self(error)
    }
}

impl From<TchError> for Failure {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        // The lines after the first are the addresses of C++ functions.
        let first = text.lines().next().unwrap_or_default();
        // libtorch says so of a device, and its allocator of main memory.
        let full = ["out of memory", "can't allocate memory"];
        Self(match full.iter().any(|words| first.contains(words)) {
            true => PluginError::new(
                ErrorKind::OUT_OF_MEMORY,
                format!(
                    "libtorch: {first}. Use fewer or shorter clips at once, `dtype = \"bf16\"`, or another device; \
                     training takes less with `checkpoint_activations`"
                ),
            ),
            false => PluginError::new(ErrorKind::INTERNAL, format!("libtorch: {first}")),
        })
    }
}

impl From<Failure> for PluginError {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}
