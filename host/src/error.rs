//! The error of this library.

use crate::{
    disk::whole_file::advice,
    features::FeatureError,
    hub::HubError,
    memory,
    messages::causes,
    mixer::MixerError,
    plugin::{BoundaryError, CallError, LoadError, PluginFailure, PluginNotFound},
    prompt::TemplateError,
    registry::{RegistryError, SourceError},
    sampling::SamplerError,
    tokenizer::TokenizerError,
    transform::TransformError,
    video::VideoError,
};

use merv_checkpoint::CheckpointError;
use merv_plugin_api::PluginError;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// An error of this library. Its message says what was expected, what was found and what to do. Its sources
/// give the reasons.
#[derive(Debug, Error)]
pub enum Error {
    /// The registry was not found, cannot be read or is not valid.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A plugin of the registry was not found in any folder.
    #[error(transparent)]
    PluginNotFound(#[from] PluginNotFound),
    /// A plugin cannot be loaded.
    #[error(transparent)]
    PluginLoad(#[from] LoadError),
    /// A plugin does not have the model that the registry requests.
    #[error(
        "plugin `{plugin}` does not have the {kind} `{id}`\n  expected: one of {known}\n  \
         do: correct the id or the plugin in the registry"
    )]
    UnknownModel {
        /// The plugin.
        plugin: String,
        /// Encoder or language model.
        kind: &'static str,
        /// The id.
        id: String,
        /// The ids of that kind that the plugin has.
        known: String,
    },
    /// A call of a plugin returned an error.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A file of the registry cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file could not be downloaded from the hub.
    #[error(transparent)]
    Hub(Box<HubError>),
    /// The tokenizer cannot be read or used.
    #[error(transparent)]
    Text(#[from] TokenizerError),
    /// The chat template cannot be read or rendered.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The mixer cannot be loaded or run.
    #[error(transparent)]
    Mixer(#[from] MixerError),
    /// The video cannot be read.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// Memory ran out while a file was read.
    #[error(
        "{}: memory ran out while it was read; the file itself may be fine", .path.display()
    )]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// The out-of-memory error.
        source: io::Error,
    },
    /// Memory is limited and nearly used up.
    #[error("too little memory is left to continue")]
    LittleMemory(#[source] io::Error),
    /// The frames cannot be turned into clips.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// The feature cache cannot be used, or the digest of a file cannot be computed.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The sampler's settings or the logits are wrong.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The prompt is too long.
    #[error(
        "the prompt is too long: {tokens} tokens\n  expected: at most {limit}, {why}\n  \
         do: shorten the prompt, or choose a model with a longer context"
    )]
    PromptTooLong {
        /// Tokens of the prompt, with the chat format around it.
        tokens: usize,
        /// The maximum.
        limit: usize,
        /// The reason for the limit.
        why: String,
    },
    /// No prompt fits.
    #[error(
        "no prompt fits this model: even `?` has {tokens} tokens with the chat format around it\n  \
         expected: at most {limit}, {why}\n  do: raise `max_length`, shorten the system prompt or the template, or \
         choose a mixer with fewer visual tokens or a language model with a longer context"
    )]
    NoRoomForPrompts {
        /// Tokens of the shortest prompt.
        tokens: usize,
        /// How many there may be.
        limit: usize,
        /// What sets the limit.
        why: String,
    },
    /// The conversation has no room for another message.
    #[error(
        "the conversation is full: {tokens} tokens with this message\n  expected: at most {limit}, {why}\n  \
         do: start a new one (`/reset` in `merv-host chat`), or choose a model with a longer context"
    )]
    ConversationFull {
        /// Tokens of the conversation, with the chat format around it.
        tokens: usize,
        /// The maximum.
        limit: usize,
        /// The reason for the limit.
        why: String,
    },
    /// A tensor computation failed.
    #[error("a tensor computation failed")]
    Tensor(#[from] candle_core::Error),
    /// The compute threads cannot be started.
    #[error("the compute threads cannot be started")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// A tensor of a plugin is not as expected, or a tensor cannot be passed to a plugin.
    #[error(transparent)]
    Boundary(#[from] BoundaryError),
    /// An encoder or the mixer computed values that are not finite.
    #[error(
        "{what} computed values that are not finite numbers\n  \
         do: check the weights {weights}; a damaged file can cause this"
    )]
    NotFinite {
        /// The encoder or the mixer.
        what: String,
        /// Where its weights came from.
        weights: String,
    },
    /// A path cannot be passed to a plugin.
    #[error(
        "the path {} is not UTF-8, but plugins need UTF-8 paths\n  do: rename the folder or file",
        .0.display()
    )]
    PathNotUtf8(PathBuf),
    /// An output file cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A weights file cannot be read.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The output file is also an input file.
    #[error(
        "{} is also an input file and would be overwritten\n  do: choose another output file", .path.display()
    )]
    OutputIsInput {
        /// The file.
        path: PathBuf,
    },
    /// Several errors.
    #[error("{}", ErrorList(.0))]
    Several(Vec<Error>),
}

/// Several errors, each with its causes: `source` can return only one chain.
struct ErrorList<'a>(&'a [Error]);

impl fmt::Display for ErrorList<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} problems", self.0.len())?;
        for error in self.0 {
            write!(f, "\n- {error}")?;
            for cause in causes(error) {
                write!(f, "\n  because: {cause}")?;
            }
        }
        Ok(())
    }
}

impl From<HubError> for Error {
    fn from(error: HubError) -> Self {
        Self::Hub(Box::new(error))
    }
}

impl From<PluginError> for Error {
    fn from(error: PluginError) -> Self {
        BoundaryError(error.into()).into()
    }
}

impl Error {
    /// Returns the error of a tensor that cannot be passed to or from a plugin.
    pub(crate) fn boundary(message: impl Into<String>) -> Self {
        BoundaryError(PluginFailure::invalid(message)).into()
    }
}

impl Error {
    /// Returns the values of all `results`, or all of their errors.
    pub(crate) fn collect<T>(
        results: impl IntoIterator<Item = Result<T, Self>>,
    ) -> Result<Vec<T>, Self> {
        let (mut values, mut errors) = (Vec::new(), Vec::new());
        for result in results {
            match result {
                Ok(value) => values.push(value),
                Err(Self::Several(more)) => errors.extend(more),
                Err(error) => errors.push(error),
            }
        }
        Self::all(errors)?;
        Ok(values)
    }

    /// Returns the error about a file that was read, or an out-of-memory error if memory is short.
    pub(crate) fn of_file(path: &Path, error: impl Into<Self>) -> Self {
        let error = error.into();
        match memory::ran_out(&error) || memory::is_short() {
            true => Self::OutOfMemory {
                path: path.to_owned(),
                source: io::ErrorKind::OutOfMemory.into(),
            },
            false => error,
        }
    }

    /// Returns whether only the clip is at fault, so that other clips can still be used.
    pub fn is_of_the_clip(&self) -> bool {
        matches!(
            self,
            Self::Video(_) | Self::Transform(_) | Self::Features(FeatureError::Digest { .. })
        )
    }

    /// Returns all errors as one, if there are any.
    pub(crate) fn all(errors: Vec<Self>) -> Result<(), Self> {
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Self::one_of(errors)),
        }
    }

    /// Returns one error for one or more. If memory ran out, it is only that: the others may follow from it.
    fn one_of(mut errors: Vec<Self>) -> Self {
        let no_memory = errors.iter().position(|error| memory::ran_out(error));
        match (no_memory, errors.len()) {
            (Some(index), _) => errors.swap_remove(index),
            (None, 1) => errors.remove(0),
            (None, _) => Self::Several(errors),
        }
    }

    /// Returns both values, or the errors of both.
    pub(crate) fn both<A, B>(a: Result<A, Self>, b: Result<B, Self>) -> Result<(A, B), Self> {
        match (a, b) {
            (Ok(a), Ok(b)) => Ok((a, b)),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Err(a), Err(b)) => {
                let flat = |error| match error {
                    Self::Several(errors) => errors,
                    error => vec![error],
                };
                let all = flat(a).into_iter().chain(flat(b)).collect();
                Err(Self::one_of(all))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_memory_is_reported_alone() {
        let other = || Error::boundary("another problem");
        let no_memory = || Error::LittleMemory(io::ErrorKind::OutOfMemory.into());
        let error = Error::all(vec![other(), no_memory(), other()]).unwrap_err();
        assert!(matches!(error, Error::LittleMemory(_)), "{error}");
        let error = Error::both::<(), ()>(Err(other()), Err(no_memory())).unwrap_err();
        assert!(matches!(error, Error::LittleMemory(_)), "{error}");
        let error = Error::both::<(), ()>(Err(other()), Err(other())).unwrap_err();
        assert!(matches!(error, Error::Several(list) if list.len() == 2));
    }
}
