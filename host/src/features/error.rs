//! Errors of the feature cache.

use super::StoreDtype;
use crate::disk::whole_file::{advice, reading_advice};
use std::{io, path::PathBuf};

/// The reason why the feature cache failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The folder or a file in it cannot be created or read.
    #[error("the feature cache cannot use {}\n  do: {}", .path.display(), reading_advice(.source))]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The folder contains other files.
    #[error(
        "{} contains `{foreign}`, which is not part of a feature cache\n  expected: a folder that `encode` \
         filled, an empty folder, or a new one\n  do: correct the path", .path.display()
    )]
    NotACache {
        /// The folder.
        path: PathBuf,
        /// The file that does not belong to a cache.
        foreign: String,
    },
    /// A shard cannot be written.
    #[error("the feature cache cannot write {}\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that features depend on cannot be read.
    #[error(
        "{} cannot be read, so its features cannot be looked up: {}",
        .path.display(), reading_advice(.source)
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A value is too large for the format.
    #[error(
        "the features of {key} contain {value}, which is too large for {dtype}\n  \
         expected: at most {}\n  do: store them as bf16 or f32", .dtype.largest()
    )]
    OutOfRange {
        /// The key of the features.
        key: String,
        /// The value.
        value: f32,
        /// The format.
        dtype: StoreDtype,
    },
    /// A tensor does not have the shape of features.
    #[error("the features of {key} have shape {shape:?}; expected [tokens, width]")]
    Shape {
        /// The key of the features.
        key: String,
        /// Their shape.
        shape: Vec<usize>,
    },
    /// A tensor computation failed.
    #[error("a tensor computation failed")]
    Tensor(#[from] candle_core::Error),
}
