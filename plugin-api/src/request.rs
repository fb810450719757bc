//! What the host asks a plugin to describe or load.

use crate::{DType, Device};
use abi_stable::{
    StableAbi,
    std_types::{ROption, RString, RVec},
};

/// Which model, from which files, where to.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// A model id from the plugin's manifest.
    pub id: RString,
    /// Paths of the weights, shards in order. When the model is only to be described: those that are on
    /// this machine already, or none.
    pub weights: RVec<RString>,
    /// Path of the config file. Without one the plugin takes the published sizes of `id`.
    pub config: ROption<RString>,
    /// Where to compute.
    pub device: Device,
    /// What to compute in; the plugin's choice when absent.
    pub dtype: ROption<DType>,
}

/// A request for an encoder.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct EncoderRequest {
    /// Which model, from which files, where to.
    pub model: ModelSource,
    /// Frames per clip.
    pub num_frames: u32,
    /// Height and width of the clips, in pixels, if not the model's own choice.
    pub image_size: ROption<u32>,
}

/// A request for a language model.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, PartialEq, Eq)]
pub struct LanguageModelRequest {
    /// Which model, from which files, where to.
    pub model: ModelSource,
}
