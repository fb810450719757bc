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
        // No error of libtorch on a CPU has a kind of its own.
        let kind = match first.contains("can't allocate memory") {
            true => ErrorKind::OUT_OF_MEMORY,
            false => ErrorKind::INTERNAL,
        };
        Self(PluginError::new(kind, format!("libtorch: {first}")))
    }
}

impl From<Failure> for PluginError {
    fn from(failure: Failure) -> Self {
        failure.0
    }
}
