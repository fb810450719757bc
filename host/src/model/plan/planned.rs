//! Models that can be loaded, with the descriptions of their plugins.

use crate::{
    mixer::EncoderShape,
    plugin::{Choice, Library},
    registry::SourceError,
};
use merv_checkpoint::Checkpoint;
use merv_plugin_api::{
    DType, EncoderInfo, EncoderRequest, LanguageModelInfo, LanguageModelRequest, ModelSource,
};
use std::sync::Arc;

/// An encoder that can be loaded.
pub struct PlannedEncoder {
    /// Its plugin.
    pub library: Arc<Library>,
    /// Why this plugin was taken.
    pub choice: Choice,
    /// The request to the plugin. It contains only the weights that are on this machine.
    pub request: EncoderRequest,
    /// The plugin's description of the encoder.
    pub info: EncoderInfo,
    /// Whether the encoder has no weights.
    pub without_weights: bool,
}

/// A language model that can be loaded.
pub struct PlannedLlm {
    /// Its plugin.
    pub library: Arc<Library>,
    /// Why this plugin was taken.
    pub choice: Choice,
    /// The request to the plugin. It contains only the weights that are on this machine.
    pub request: LanguageModelRequest,
    /// The plugin's description of the language model.
    pub info: LanguageModelInfo,
}

impl PlannedEncoder {
    /// Returns the size of its weights in bytes, in the number format of their files.
    /// [`LoadOptions::precision`](super::LoadOptions::precision) is the format of the computation.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is damaged.
    pub fn weight_bytes(&self) -> Result<u64, SourceError> {
        if self.without_weights {
            return Ok(0);
        }
        stored_bytes(self.info.parameters, &self.request.model)
    }
}

impl PlannedLlm {
    /// Returns the size of its weights in bytes, in the number format of their files.
    ///
    /// # Errors
    ///
    /// Returns an error if a file is damaged.
    pub fn weight_bytes(&self) -> Result<u64, SourceError> {
        stored_bytes(self.info.parameters, &self.request.model)
    }
}

/// Returns the size of a number of parameters in bytes, in the number format of the files. The files may contain
/// other tensors too. Without a file, a parameter has four bytes.
fn stored_bytes(parameters: u64, model: &ModelSource) -> Result<u64, SourceError> {
    if !model.weights.is_empty() {
        let checkpoint = Checkpoint::open(&model.weights)?;
        let (mut elements, mut bytes) = (0u64, 0u64);
        for (_, tensor) in checkpoint.iter() {
            elements = elements.saturating_add(tensor.elements() as u64);
            bytes = bytes.saturating_add(tensor.bytes().len() as u64);
        }
        if elements > 0 {
            let stored = u128::from(parameters) * u128::from(bytes) / u128::from(elements);
            return Ok(u64::try_from(stored).unwrap_or(u64::MAX));
        }
    }
    Ok(parameters.saturating_mul(DType::F32.size() as u64))
}

/// Returns the output shape of an encoder for the mixer.
pub(crate) fn shape_of(info: &EncoderInfo) -> EncoderShape {
    EncoderShape {
        width: info.width as usize,
        temporal: info.temporal as usize,
        spatial: info.spatial as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use merv_plugin_api::Device;

    #[test]
    fn without_a_file_a_parameter_has_four_bytes() {
        let mut model = ModelSource::new("x", Device::CPU);
        model.dtype = Some(DType::BF16);
        assert_eq!(stored_bytes(7, &model).unwrap(), 28);
        assert_eq!(stored_bytes(u64::MAX, &model).unwrap(), u64::MAX);
    }
}
