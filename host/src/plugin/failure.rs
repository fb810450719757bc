//! A plugin's error as a Rust error, with its causes as sources.

use merv_plugin_api::{ErrorKind, PluginError};
use std::{error::Error, fmt};

/// An error of a plugin, or of code that is shared with plugins.
#[derive(Debug, Clone)]
pub struct PluginFailure {
    /// The class of the error.
    pub kind: ErrorKind,
    /// The plugin's message.
    pub message: String,
    cause: Option<Box<Cause>>,
}

impl PluginFailure {
    /// Creates an error of kind [`ErrorKind::INVALID_INPUT`] without causes.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::INVALID_INPUT,
            message: message.into(),
            cause: None,
        }
    }
}

impl From<PluginError> for PluginFailure {
    fn from(error: PluginError) -> Self {
        let cause = error.causes.iter().rev().fold(None, |next, message| {
            Some(Box::new(Cause {
                message: message.clone(),
                next,
            }))
        });
        Self {
            kind: error.kind,
            message: error.message,
            cause,
        }
    }
}

impl fmt::Display for PluginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for PluginFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

/// A tensor cannot be passed to or from a plugin.
#[derive(Debug, Clone)]
pub struct BoundaryError(pub PluginFailure);

impl fmt::Display for BoundaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a tensor cannot be passed to or from a plugin: {}",
            self.0
        )
    }
}

impl Error for BoundaryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A cause that a plugin reported, and the causes below it.
#[derive(Debug, Clone)]
struct Cause {
    message: String,
    next: Option<Box<Cause>>,
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
