//! What a checkpoint says of itself, beside its tensors.

use serde::{Deserialize, Serialize};

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// `state.json`: where a run was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The version of the format.
    pub version: u32,
    /// Steps that were done. The next step's batch follows from it, the seed and the data.
    pub step: u64,
    /// The stage.
    pub stage: String,
    /// The SHA-256 of the data set.
    pub data_sha256: String,
    /// Numbers of the examples that turned out broken, in the order of the file.
    pub broken: Vec<u32>,
    /// The loss on the held-out examples, if it was computed at this step.
    pub validation_loss: Option<f64>,
    /// The trained parts.
    pub parts: Vec<PartState>,
    /// The checksum of the file, which is looked at before.
    #[serde(default, skip_serializing)]
    pub crc32: Option<String>,
}

/// A trained part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartState {
    /// `mixer`, `llm` or `encoder-<id>`.
    pub name: String,
    /// Steps in which the optimizer changed it.
    pub optimizer_steps: u64,
    /// Its files: weights and, once it was changed, the optimizer's two moments.
    pub files: Vec<FileState>,
}

/// A file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    /// Its name in the checkpoint's folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: String,
}
