//! What can go wrong with kept features.

use super::StoreDtype;
use crate::disk::whole_file::{advice, reading_advice};
use std::{io, path::PathBuf};

/// Features cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The folder or a file in it cannot be made or read.
    #[error("the feature cache cannot use {}\n  do: {}", .path.display(), reading_advice(.source))]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder holds something else.
    #[error(
        "{} holds `{stranger}`, which is not part of a feature cache\n  expected: a folder that `encode` \
         filled, an empty one, or a new one\n  do: correct the path", .path.display()
    )]
    NotACache {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        stranger: String,
    },
    /// A shard cannot be written.
    #[error("the feature cache cannot write {}\n  do: {}", .path.display(), advice(.source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that features depend on cannot be read.
    #[error(
        "{} cannot be read, so that nobody knows which features belong to it: {}",
        .path.display(), reading_advice(.source)
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A value does not fit the format.
    #[error(
        "the features of {key} hold {value}, which {dtype} cannot\n  \
         expected: {} at most\n  do: keep them as bf16 or f32", .dtype.largest()
    )]
    OutOfRange {
        /// Whose features.
        key: String,
        /// The value.
        value: f32,
        /// The format.
        dtype: StoreDtype,
    },
    /// Not features.
    #[error("the features of {key} have shape {shape:?}; expected [tokens, width]")]
    Shape {
        /// Whose features.
        key: String,
        /// Their shape.
        shape: Vec<usize>,
    },
    /// Computing with tensors failed.
    #[error("a tensor computation failed")]
    Tensor(#[from] candle_core::Error),
}
