//! `state.json`, the description of a checkpoint.

use serde::{Deserialize, Serialize};

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// The contents of `state.json`: the state of the run when the checkpoint was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The version of the format.
    pub version: u32,
    /// The number of completed steps. The next batch follows from it, the seed and the data.
    pub step: u64,
    /// The stage.
    pub stage: String,
    /// The SHA-256 of the data set.
    pub data_sha256: String,
    /// The numbers of the examples that were found broken, in the order of the file.
    pub broken: Vec<u32>,
    /// The loss on the held-out examples, if it was computed at this step.
    pub validation_loss: Option<f64>,
    /// The trained parts.
    pub parts: Vec<PartState>,
    /// The checksum of the file, which is checked before the file is parsed.
    #[serde(default, skip_serializing)]
    pub crc32: Option<String>,
}

/// A trained part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartState {
    /// `mixer`, `llm` or `encoder-<id>`.
    pub name: String,
    /// The number of steps in which the optimizer changed it.
    pub optimizer_steps: u64,
    /// Its files: the weights and, if the optimizer has changed them, its two moments.
    pub files: Vec<FileState>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    /// Its name in the checkpoint's folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its digest, in hexadecimal.
    pub sha256: String,
}
