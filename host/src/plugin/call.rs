//! A call into a plugin that failed.

use merv_plugin_api::{ErrorKind, PluginError};
use std::{error::Error, fmt};

/// A plugin answered with an error, or panicked.
#[derive(Debug, Clone)]
pub struct CallError {
    /// The plugin's name.
    pub plugin: String,
    /// What was asked of it: `encode with siglip-…`.
    pub doing: String,
    /// The class of the error.
    pub kind: ErrorKind,
    /// The plugin's message.
    pub message: String,
    cause: Option<Box<Cause>>,
}

/// One of the causes that a plugin gave, and the ones below it.
#[derive(Debug, Clone)]
struct Cause {
    message: String,
    next: Option<Box<Cause>>,
}

impl CallError {
    pub(super) fn new(plugin: &str, doing: &str, error: PluginError) -> Self {
        let cause = error.causes.iter().rev().fold(None, |next, message| {
            Some(Box::new(Cause {
                message: message.to_string(),
                next,
            }))
        });
        Self {
            plugin: plugin.to_owned(),
            doing: doing.to_owned(),
            kind: error.kind,
            message: error.message.into_string(),
            cause,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::Panic => Some(
                "this is a fault of the plugin: report it to its author, with the command you ran",
            ),
            ErrorKind::OutOfMemory => Some("close other programs, or choose a smaller model"),
            _ => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "plugin `{}` could not {}: {}",
            self.plugin, self.doing, self.message
        )?;
        self.hint()
            .map_or(Ok(()), |hint| write!(f, "\n  do: {hint}"))
    }
}

impl Error for CallError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.next.as_deref().map(|cause| cause as _)
    }
}
