//! What can stop a training run.

use super::{
    CheckpointError, SettingsError,
    data::{DataError, LoaderError},
};
use crate::{
    Error,
    disk::{
        hold::HoldError,
        whole_file::{advice, reading_advice},
    },
    plugin::CallError,
};
use std::{io, path::PathBuf};
use thiserror::Error;

/// A run cannot begin or go on. What its last checkpoint holds is safe.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The data set cannot be trained on.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model cannot be loaded or computed.
    #[error(transparent)]
    Model(Box<Error>),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The folder is not free.
    #[error(
        "{} holds a run already\n  do: go on with it by --resume, or name another folder in --out",
        .0.display()
    )]
    Occupied(PathBuf),
    /// The folder holds something else.
    #[error(
        "{} holds `{stranger}`, which no run made
  do: name a new folder in --out", .path.display()
    )]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// A file in it.
        stranger: String,
    },
    /// Another process writes the folder.
    #[error(transparent)]
    Held(#[from] HoldError),
    /// A file of the run is not what was written.
    #[error(
        "{}: {what}\n  do: bring it back from a copy; if the change is meant, remove the line `# crc32: …` at \
         its end", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// There is nothing to go on with.
    #[error(
        "{} holds no run that could be resumed\n  expected: a folder that an earlier `train --out` made\n  \
         do: correct the path, or leave --resume out to begin", .0.display()
    )]
    NothingToResume(PathBuf),
    /// The checkpoints of a run are gone.
    #[error(
        "{}: the run has written checkpoints, and none is there\n  \
         do: bring the folder back from a copy, or begin anew in another folder", .0.display()
    )]
    NoCheckpoint(PathBuf),
    /// A run is resumed with other settings.
    #[error(
        "{} was started with other settings; then and now:\n  {}\n  \
         do: leave these out, for the run recorded its own; or begin anew in another folder", .path.display(), .differences.join("\n  ")
    )]
    OtherSettings {
        /// The run.
        path: PathBuf,
        /// Each key with its two values.
        differences: Vec<String>,
    },
    /// A run is resumed with fewer steps than it has done.
    #[error(
        "{} has done {done} steps, and `epochs` and `max_steps` end it after {total}\n  \
         do: raise them, or begin anew in another folder", .path.display()
    )]
    TooShort {
        /// The run.
        path: PathBuf,
        /// Steps that were done.
        done: u64,
        /// Steps that are to be done.
        total: u64,
    },
    /// A run is resumed with other data.
    #[error(
        "{} is not the data set that the run was started with: its sha256 is {found}, expected {expected}\n  \
         do: bring the data set back, or begin anew in another folder", .path.display()
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
        "{visual} visual tokens leave no room for text in a context of {context}\n  \
         do: choose a language model with a longer context, or a mixer with fewer tokens"
    )]
    NoRoom {
        /// Tokens of a clip.
        visual: usize,
        /// Positions of the language model.
        context: usize,
    },
    /// Examples may be longer than the language model's context.
    #[error(
        "`max_length = {length}` is more than the context of the language model `{llm}`\n  \
         expected: at most {context} tokens\n  found: {length}\n  \
         do: lower `max_length`, or leave it out for the registry's"
    )]
    LongerThanContext {
        /// Text tokens that were asked for.
        length: usize,
        /// The language model.
        llm: String,
        /// Positions of it.
        context: usize,
    },
    /// Every example is cut before its reply.
    #[error(
        "{}: no example has a reply within `max_length = {length}` tokens, so that there is nothing to learn\n  \
         expected: examples of which a part of a reply is left when they are cut\n  do: raise `max_length`",
        .path.display()
    )]
    NothingLeft {
        /// The data set.
        path: PathBuf,
        /// Where its examples are cut.
        length: usize,
    },
    /// The chat format cannot be trained on.
    #[error(
        "the prompt is {0}, which writes conversations only as a whole
  expected: a format, because each turn          is tokenised by itself in training
  do: name a format as `prompt` in the registry's [llm], such as `pure`"
    )]
    Template(String),
    /// A model cannot be trained, or cannot be trained through.
    #[error("{what}\n  do: {remedy}")]
    Untrainable {
        /// What the stage needs, and which model does not have it.
        what: String,
        /// What to do.
        remedy: &'static str,
        /// The plugin's answer.
        source: Box<CallError>,
    },
    /// Training has gone astray.
    #[error(
        "the {what} of step {step} is not a finite number\n  \
         do: lower `learning_rate`, or look for damaged examples; the checkpoints before it are good"
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
