//! Failed calls of plugins.

use super::failure::PluginFailure;
use merv_plugin_api::{ErrorKind, PluginError};
use std::{error::Error, fmt};

/// A call of a plugin returned an error or panicked.
#[derive(Debug, Clone)]
pub struct CallError {
    /// The plugin's name.
    pub plugin: String,
    /// The operation, such as `encode with siglip-…`.
    pub doing: String,
    /// The plugin's error.
    pub failure: PluginFailure,
}

impl CallError {
    pub(super) fn new(plugin: &str, doing: &str, error: PluginError) -> Self {
        Self {
            plugin: plugin.to_owned(),
            doing: doing.to_owned(),
            failure: error.into(),
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self.failure.kind {
            ErrorKind::PANIC => Some(
                "this is a bug in the plugin: report it to its author, with the command you ran",
            ),
            ErrorKind::TIMED_OUT => Some(
                "look at the output of the processes that did not come: they have failed, or need more time",
            ),
            ErrorKind::ABORTED => Some("look at the output of the process that aborted or left"),
            ErrorKind::OUT_OF_MEMORY => Some("close other programs, or choose a smaller model"),
            _ => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "plugin `{}` could not {}: {}",
            self.plugin, self.doing, self.failure
        )?;
        self.hint()
            .map_or(Ok(()), |hint| write!(f, "\n  do: {hint}"))
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failure.source()
    }
}
