//! Errors that stop a training run.

use super::{
    CheckpointError, SettingsError, TrainingStage,
    data::{DataError, LoaderError},
};
use crate::{
    Error,
    disk::{
        whole_file::{advice, reading_advice},
        write_lock::LockError,
    },
    plugin::CallError,
};
use std::{io, path::PathBuf};
use thiserror::Error;

/// A run cannot start or continue. Its last checkpoint is not affected.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data set cannot be trained on.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Model(Box<Error>),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The folder already contains a run.
    #[error(
        "{} already contains a run\n  do: resume it with --resume, or choose another folder for --out",
        .0.display()
    )]
    Occupied(PathBuf),
    /// The folder contains something else.
    #[error(
        "{} contains `{unexpected}`, which does not belong to a run\n  do: choose a new folder for --out", .path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// A file in it.
        unexpected: String,
    },
    /// Another process uses the folder.
    #[error(transparent)]
    Held(#[from] LockError),
    /// A file of the run differs from what was written.
    #[error(
        "{}: {what}\n  do: restore it from a backup; if the change is intended, remove the line `# crc32: …` at \
         its end", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is no run to resume.
    #[error(
        "{} does not contain a run to resume\n  expected: the folder of an earlier `train --out`\n  \
         do: correct the path, or omit --resume to start a run", .0.display()
    )]
    NothingToResume(PathBuf),
    /// The recorded settings of a run are gone.
    #[error(
        "{} does not contain the settings of a run\n  expected: the settings that the run recorded, with a table \
         such as `[align]`\n  do: restore the file from a copy, or train again in another folder", .0.display()
    )]
    NoSettings(PathBuf),
    /// A file of a run is a folder, or the other way round.
    #[error(
        "{} is not {expected}\n  expected: {expected}, in which the run can write\n  \
         do: remove it, or give it another name", .path.display()
    )]
    WrongKind {
        /// The file or folder.
        path: PathBuf,
        /// What it has to be.
        expected: &'static str,
    },
    /// The checkpoints of a run are missing.
    #[error(
        "{}: the run has written checkpoints, and all of them are missing\n  \
         do: restore the folder from a backup, or start a new run in another folder", .0.display()
    )]
    NoCheckpoint(PathBuf),
    /// A run is resumed with other settings.
    #[error(
        "{} was started with other settings; then and now:\n  {}\n  \
         do: omit these settings, because the run recorded its own; or start a new run in another folder",
        .path.display(), .differences.join("\n  ")
    )]
    OtherSettings {
        /// The run.
        path: PathBuf,
        /// Each key with its two values.
        differences: Vec<String>,
    },
    /// A run is resumed with fewer steps than it has completed.
    #[error(
        "{} has completed {done} steps, but `epochs` and `max_steps` end it after {total}\n  \
         do: raise them, or start a new run in another folder", .path.display()
    )]
    TooShort {
        /// The run.
        path: PathBuf,
        /// The number of completed steps.
        done: u64,
        /// The number of steps in the settings.
        total: u64,
    },
    /// A run is resumed with other data.
    #[error(
        "{} is not the data set that the run was started with: its sha256 is {found}, expected {expected}\n  \
         do: restore the data set, or start a new run in another folder", .path.display()
    )]
    OtherData {
        /// The data set.
        path: PathBuf,
        /// The digest of the checkpoint.
        expected: String,
        /// The digest of the file.
        found: String,
    },
    /// The visual tokens leave no room for text.
    #[error(
        "{visual} visual tokens leave no room for text in a context of {context} tokens\n  \
         do: choose a language model with a longer context, or a mixer with fewer tokens"
    )]
    NoRoom {
        /// The number of visual tokens of a clip.
        visual: usize,
        /// The context length of the language model.
        context: usize,
    },
    /// Examples may be longer than the language model's context.
    #[error(
        "`max_length = {length}` is more than the context of the language model `{llm}`\n  \
         expected: at most {context} tokens\n  found: {length}\n  \
         do: lower `max_length`, or omit it to use the registry's"
    )]
    LongerThanContext {
        /// The requested number of text tokens.
        length: usize,
        /// The language model.
        llm: String,
        /// Its context length.
        context: usize,
    },
    /// Every example is cut before its reply.
    #[error(
        "{}: no example has a reply within `max_length = {length}` tokens, so there is nothing to learn from\n  \
         expected: examples that still have a part of a reply after they are cut\n  do: raise `max_length`",
        .path.display()
    )]
    NothingLeft {
        /// The data set.
        path: PathBuf,
        /// The length that its examples are cut to.
        length: usize,
    },
    /// The chat format cannot be trained on.
    #[error(
        "the prompt is {0}, which can only write whole conversations\n  \
         expected: a chat format, because training tokenises each turn separately\n  \
         do: set `prompt` in the registry's [llm] to a chat format, such as `pure`"
    )]
    Template(String),
    /// A model cannot be trained, or cannot compute the gradients of its inputs.
    #[error("{what}\n  do: {remedy}")]
    Untrainable {
        /// What the stage needs, and which model does not support it.
        what: String,
        /// What to do.
        remedy: &'static str,
        /// The error of the plugin.
        source: Box<CallError>,
    },
    /// An encoder would be trained that reads no weights.
    #[error(
        "`{stage}` trains the encoders, and `{id}` reads no weights, so what it learns could not be loaded again\n  \
         do: train with `--stage finetune`, which does not change the encoders, or set `weights` of the encoder"
    )]
    WithoutWeights {
        /// The stage.
        stage: TrainingStage,
        /// The id of the encoder.
        id: String,
    },
    /// Training has diverged.
    #[error(
        "the {what} of step {step} is not a finite number\n  \
         do: lower `learning_rate`, look for damaged examples, or report it to the author of a plugin that is trained; \
         checkpoints with weights that are not finite are never written"
    )]
    NotFinite {
        /// Loss or gradient.
        what: &'static str,
        /// The step.
        step: u64,
    },
    /// A file of the run cannot be written.
    #[error("{} cannot be written\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of the run cannot be read.
    #[error("{} cannot be read\n  do: {}", .path.display(), reading_advice(.source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl From<Error> for TrainError {
    fn from(error: Error) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<LoaderError> for TrainError {
    fn from(error: LoaderError) -> Self {
        match error {
            LoaderError::Data(error) => error.into(),
            LoaderError::Model(error) => Self::Model(error),
        }
    }
}

macro_rules! through_model {
    ($($kind:ty),*) => {
        $(impl From<$kind> for TrainError {
            fn from(error: $kind) -> Self {
                Error::from(error).into()
            }
        })*
    };
}

through_model!(
    candle_core::Error,
    CallError,
    crate::mixer::MixerError,
    crate::features::FeatureError,
    crate::registry::RegistryError,
    merv_plugin_api::PluginError
);
