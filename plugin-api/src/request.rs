//! Requests of the host to describe or load a model.

use crate::{DType, Device};
use abi_stable::{
    StableAbi,
    std_types::{ROption, RString, RVec},
};

/// A model id, the files of the model and the device to load it on.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// A model id from the plugin's manifest.
    pub id: RString,
    /// Paths of the weights, shards in order. A request to describe a model lists only the files that are
    /// already on this machine, possibly none.
    pub weights: RVec<RString>,
    /// Path of the config file. Without one, the plugin uses the published sizes of `id`.
    pub config: ROption<RString>,
    /// The device to compute on.
    pub device: Device,
    /// The dtype to compute in. If absent, the plugin chooses.
    pub dtype: ROption<DType>,
}

/// A request for an encoder.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct EncoderRequest {
    /// The model.
    pub model: ModelSource,
    /// Frames per clip.
    pub num_frames: u32,
    /// Height and width of the clips, in pixels. If absent, the plugin chooses.
    pub image_size: ROption<u32>,
}

/// A request for a language model.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct LanguageModelRequest {
    /// The model.
    pub model: ModelSource,
}
