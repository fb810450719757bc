//! Errors of the mixer.

use crate::plugin::PluginFailure;
use merv_plugin_sdk::PluginError;
use std::{error::Error, fmt};

/// The mixer could not be loaded or run.
#[derive(Debug)]
pub struct MixerError(pub PluginFailure);

impl fmt::Display for MixerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the mixer: {}", self.0)
    }
}

impl Error for MixerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

impl From<PluginError> for MixerError {
    fn from(error: PluginError) -> Self {
        Self(error.into())
    }
}
