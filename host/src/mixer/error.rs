//! Why a mixer could not be loaded or run.

use merv_plugin_sdk::PluginError;
use std::{error::Error, fmt};

/// The mixer could not be loaded or run.
#[derive(Debug)]
pub struct MixerError {
    message: String,
    causes: Vec<String>,
}

impl fmt::Display for MixerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the mixer: {}", self.message)?;
        self.causes
            .iter()
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl Error for MixerError {}

impl From<PluginError> for MixerError {
    fn from(error: PluginError) -> Self {
        Self {
            message: error.message.to_string(),
            causes: error.causes.iter().map(ToString::to_string).collect(),
        }
    }
}
