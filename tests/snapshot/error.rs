use crate::code::open_code;
use std::{collections::TryReserveError, error::Error, fmt, io};

/// The maximum number of causes of an error. A chain of sources may be long, or even endless.
const MAX_CAUSES: usize = 64;

open_code! {
    /// The class of an error, from which the host chooses a hint. A host treats a class that it does not know as
    /// [`Self::INTERNAL`].
    ErrorKind, "error kind" {
        /// The caller passed something that the model does not accept (a shape, a token, a setting).
        INVALID_INPUT = 1, "invalid input";
        /// A weights or config file is missing, damaged, or belongs to another model.
        WEIGHTS = 2, "weights";
        /// The plugin cannot do this (a device, a dtype, a model id, an optional method).
        UNSUPPORTED = 3, "unsupported";
        /// Memory ran out.
        OUT_OF_MEMORY = 4, "out of memory";
        /// The plugin panicked; the panic was caught at the boundary.
        PANIC = 5, "panic";
        /// Any other failure inside the plugin.
        INTERNAL = 6, "internal";
        /// The host cancelled the call ([`crate::Call::cancelled`]).
        CANCELLED = 7, "cancelled";
        /// A process of a group did not answer in time.
        TIMED_OUT = 8, "timed out";
        /// A process aborted the group or left it.
        ABORTED = 9, "aborted";
    }
}

/// A failure inside a plugin: a kind, a message, and the messages of its causes, outermost first.
///
/// It deliberately does not implement [`std::error::Error`]: this lets `?` convert every ordinary
/// error into it (as [`ErrorKind::INTERNAL`], or [`ErrorKind::OUT_OF_MEMORY`] if memory ran out, with its chain of
/// sources).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PluginError {
    /// The class.
    pub kind: ErrorKind,
    /// What failed, what was expected and what was found.
    pub message: String,
    /// Messages of the causes, outermost first, at most 64.
    pub causes: Vec<String>,
}

impl PluginError {
    /// Makes an error of `kind` without causes.
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
            causes: Vec::new(),
        }
    }

    /// Makes an error of kind [`ErrorKind::INVALID_INPUT`].
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::INVALID_INPUT, message)
    }

    /// Makes an error of kind [`ErrorKind::WEIGHTS`].
    pub fn weights(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::WEIGHTS, message)
    }

    /// Makes an error of kind [`ErrorKind::UNSUPPORTED`].
    pub fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::UNSUPPORTED, message)
    }

    /// Makes the error of a call that the host cancelled.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::CANCELLED, "the call was cancelled")
    }

    /// Appends `source` and its own sources to the causes.
    #[must_use]
    pub fn caused_by(mut self, source: &(dyn Error + 'static)) -> Self {
        let sources = std::iter::successors(Some(source), |&error| error.source());
        let room = MAX_CAUSES.saturating_sub(self.causes.len());
        self.causes
            .extend(sources.take(room).map(ToString::to_string));
        self
    }
}

impl<E: Error + 'static> From<E> for PluginError {
    fn from(error: E) -> Self {
        let kind = match ran_out_of_memory(&error) {
            true => ErrorKind::OUT_OF_MEMORY,
            false => ErrorKind::INTERNAL,
        };
        let outer = Self::new(kind, &error);
        match error.source() {
            Some(source) => outer.caused_by(source),
            None => outer,
        }
    }
}

/// Returns what an error wraps. The source of an `io::Error` leaves out the error that it was made from.
fn inside<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    let io = error.downcast_ref::<io::Error>();
    match io.and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn ran_out_of_memory(error: &(dyn Error + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |&error| inside(error)).take(MAX_CAUSES);
    chain.any(|error| {
        let io = error.downcast_ref::<io::Error>();
        io.is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
            || error.downcast_ref::<TryReserveError>().is_some()
    })
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
