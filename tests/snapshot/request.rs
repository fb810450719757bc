use crate::{DType, Device};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};

/// A model id, the files of the model and the device to load it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ModelSource {
    /// An id from the plugin's manifest.
    pub id: String,
    /// Paths of the weights, shards in order. A request to describe a model lists only the files that are
    /// already on this machine, possibly none.
    #[serde(default)]
    pub weights: Vec<PathBuf>,
    /// Path of the config file. Without one, the plugin uses the published sizes of `id`.
    #[serde(default)]
    pub config: Option<PathBuf>,
    /// The device to compute on.
    pub device: Device,
    /// The dtype to compute in. If absent, the plugin chooses.
    #[serde(default)]
    pub dtype: Option<DType>,
    /// The `options` of the registry: keys that only this plugin knows. The description repeats those that the plugin
    /// honours ([`crate::EncoderInfo::options`]); the host refuses the others.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl ModelSource {
    /// A model on a device, without files.
    pub fn new(id: &str, device: Device) -> Self {
        Self {
            id: id.to_owned(),
            weights: Vec::new(),
            config: None,
            device,
            dtype: None,
            options: BTreeMap::new(),
        }
    }
}

/// A request for an encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EncoderRequest {
    /// The model.
    pub model: ModelSource,
    /// Frames per clip.
    pub num_frames: u32,
    /// Height and width of the clips, in pixels. If absent, the plugin chooses.
    #[serde(default)]
    pub image_size: Option<u32>,
}

impl EncoderRequest {
    /// An encoder for clips of `num_frames` frames.
    pub fn new(model: ModelSource, num_frames: u32) -> Self {
        Self {
            model,
            num_frames,
            image_size: None,
        }
    }
}

/// A request for a language model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LanguageModelRequest {
    /// The model.
    pub model: ModelSource,
}

impl LanguageModelRequest {
    /// A language model.
    pub fn new(model: ModelSource) -> Self {
        Self { model }
    }
}
