//! Everything that can fail between a registry's name and an answer.

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

/// An error of this library. Its message says what was expected, what was found and what to do; its
/// sources say why.
#[derive(Debug, Error)]
pub enum Error {
    /// The registry cannot be found, read or accepted.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// No folder has a plugin that the registry names.
    #[error(transparent)]
    PluginNotFound(#[from] PluginNotFound),
    /// A plugin cannot be loaded.
    #[error(transparent)]
    PluginLoad(#[from] LoadError),
    /// A plugin brings no model of the id that the registry names.
    #[error(
        "plugin `{plugin}` brings no {kind} `{id}`\n  expected: one of {known}\n  \
         do: correct the id or the plugin in the registry"
    )]
    UnknownModel {
        /// The plugin.
        plugin: String,
        /// Encoder or language model.
        kind: &'static str,
        /// The id.
        id: String,
        /// The ids of that kind that it brings.
        known: String,
    },
    /// A plugin answered with an error.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A file that the registry names cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file of the hub cannot be had.
    #[error(transparent)]
    Hub(Box<HubError>),
    /// The tokenizer cannot be read or used.
    #[error(transparent)]
    Text(#[from] TokenizerError),
    /// The chat template cannot be read or does not render.
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
        "{}: memory ran out while it was read, which says nothing of the file", .path.display()
    )]
    OutOfMemory {
        /// The file.
        path: PathBuf,
        /// That there is none.
        source: io::Error,
    },
    /// The frames cannot be turned into clips.
    #[error(transparent)]
    Transform(#[from] TransformError),
    /// Features cannot be kept, or their names not be found.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The sampler's settings or the logits are wrong.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The prompt does not fit.
    #[error(
        "the prompt is too long: {tokens} tokens\n  expected: at most {limit}, {why}\n  \
         do: shorten the prompt, or choose a model with a longer context"
    )]
    PromptTooLong {
        /// Tokens of the prompt, with the chat format around it.
        tokens: usize,
        /// How many there may be.
        limit: usize,
        /// What sets the limit.
        why: String,
    },
    /// The conversation has become too long for one more message.
    #[error(
        "the conversation is full: {tokens} tokens with this message\n  expected: at most {limit}, {why}\n  \
         do: begin a new one (`/reset` in `merv-host chat`), or choose a model with a longer context"
    )]
    ConversationFull {
        /// Tokens of the conversation, with the chat format around it.
        tokens: usize,
        /// How many there may be.
        limit: usize,
        /// What sets the limit.
        why: String,
    },
    /// Computing with tensors failed.
    #[error("a tensor computation failed")]
    Tensor(#[from] candle_core::Error),
    /// Threads cannot be started.
    #[error("threads to compute with cannot be started")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// A plugin's tensor is not what it must be, or ours cannot be lent.
    #[error(transparent)]
    Boundary(#[from] BoundaryError),
    /// An encoder or the mixer computed something that is no number.
    #[error(
        "{what} gave values that are not finite numbers\n  \
         do: check the weights {weights}; a damaged file does this"
    )]
    NotFinite {
        /// The part.
        what: String,
        /// Where its weights came from.
        weights: String,
    },
    /// A path cannot be handed to a plugin.
    #[error(
        "{} is not UTF-8, and plugins take only paths that are\n  do: rename the folder or file",
        .0.display()
    )]
    PathNotUtf8(PathBuf),
    /// A dump cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of weights cannot be read.
    #[error(transparent)]
    Weights(#[from] CheckpointError),
    /// The file to write is one that is read.
    #[error(
        "{} is also what is read, and would be replaced\n  do: name another file to write", .path.display()
    )]
    OutputIsInput {
        /// The file.
        path: PathBuf,
    },
    /// Several things are wrong with what a registry names.
    #[error("{}", Listed(.0))]
    Several(Vec<Error>),
}

/// Several errors, each with its causes, since only one chain can be followed from outside.
struct Listed<'a>(&'a [Error]);

impl fmt::Display for Listed<'_> {
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
    /// Makes the error of a tensor that cannot cross the plugin boundary.
    pub(crate) fn boundary(message: impl Into<String>) -> Self {
        BoundaryError(PluginFailure::invalid(message)).into()
    }
}

impl Error {
    /// All of `results`, or all of their errors.
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

    /// The error about a file that was read, or, if memory is short, that.
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

    /// Whether only the clip that was read is at fault, and others may be good.
    pub fn is_of_the_clip(&self) -> bool {
        matches!(
            self,
            Self::Video(_) | Self::Transform(_) | Self::Features(FeatureError::Digest { .. })
        )
    }

    /// All errors as one, if there are any.
    pub(crate) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }

    /// Both, or the errors of both.
    pub(crate) fn both<A, B>(a: Result<A, Self>, b: Result<B, Self>) -> Result<(A, B), Self> {
        match (a, b) {
            (Ok(a), Ok(b)) => Ok((a, b)),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
            (Err(a), Err(b)) => {
                let flat = |error| match error {
                    Self::Several(errors) => errors,
                    error => vec![error],
                };
                Err(Self::Several(flat(a).into_iter().chain(flat(b)).collect()))
            }
        }
    }
}
