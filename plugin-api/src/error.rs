//! The error that crosses the boundary.

use abi_stable::{
    StableAbi,
    std_types::{RString, RVec},
};
use std::{error::Error, fmt};

/// The class of an error, from which the host chooses a hint.
#[repr(u8)]
#[derive(StableAbi, Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller passed something that the model does not accept (a shape, a token, a setting).
    InvalidInput,
    /// A weights or config file is missing, damaged, or belongs to another model.
    Weights,
    /// The plugin cannot do this (a device, a dtype, a model id, an optional method).
    Unsupported,
    /// Memory ran out.
    OutOfMemory,
    /// The plugin panicked; the panic was caught at the boundary.
    Panic,
    /// Any other failure inside the plugin.
    Internal,
}

/// A failure inside a plugin: a kind, a message, and the messages of its causes, outermost first.
///
/// It deliberately does not implement [`std::error::Error`]: this lets `?` convert every ordinary
/// error into it (as [`ErrorKind::Internal`], with its chain of sources).
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct PluginError {
    /// The class.
    pub kind: ErrorKind,
    /// What failed, what was expected and what was found.
    pub message: RString,
    /// Messages of the causes, outermost first.
    pub causes: RVec<RString>,
}

impl PluginError {
    /// Makes an error of `kind` without causes.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string().into(),
            causes: RVec::new(),
        }
    }

    /// Makes an error of kind [`ErrorKind::InvalidInput`].
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Makes an error of kind [`ErrorKind::Weights`].
    pub fn weights(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Weights, message)
    }

    /// Makes an error of kind [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Appends `source` and its own sources to the causes.
    #[must_use]
    pub fn caused_by(mut self, source: &(dyn Error + 'static)) -> Self {
        let mut next = Some(source);
        while let Some(cause) = next {
            self.causes.push(cause.to_string().into());
            next = cause.source();
        }
        self
    }
}

impl<E: Error + 'static> From<E> for PluginError {
    fn from(error: E) -> Self {
        let outer = Self::new(ErrorKind::Internal, &error);
        match error.source() {
            Some(source) => outer.caused_by(source),
            None => outer,
        }
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
