//! A plugin's error as an error of Rust, with its causes as sources.

use merv_plugin_api::{ErrorKind, PluginError};
use std::{error::Error, fmt};

/// An error that crossed the plugin boundary, or that code shared with plugins returned.
#[derive(Debug, Clone)]
pub struct PluginFailure {
    /// The class of the error.
    pub kind: ErrorKind,
    /// What failed.
    pub message: String,
    cause: Option<Box<Cause>>,
}

impl PluginFailure {
    /// Makes an error of kind [`ErrorKind::InvalidInput`] without causes.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::InvalidInput,
            message: message.into(),
            cause: None,
        }
    }
}

impl From<PluginError> for PluginFailure {
    fn from(error: PluginError) -> Self {
        let cause = error.causes.iter().rev().fold(None, |next, message| {
            Some(Box::new(Cause {
                message: message.to_string(),
                next,
            }))
        });
        Self {
            kind: error.kind,
            message: error.message.into_string(),
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

/// A tensor is not what crosses the plugin boundary.
#[derive(Debug, Clone)]
pub struct BoundaryError(pub PluginFailure);

impl fmt::Display for BoundaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a tensor cannot cross the plugin boundary: {}", self.0)
    }
}

impl Error for BoundaryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// One of the causes that a plugin gave, and the ones below it.
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
