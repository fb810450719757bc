//! Models of the real plugins.

use merv_host::plugin::{CallError, Encoder, LanguageModel, Library};
use merv_plugin_api::{Device, EncoderRequest, LanguageModelRequest, ModelSource};
use std::path::Path;

/// A model on the CPU with one file of weights and perhaps a config file.
pub fn model_source(id: &str, weights: &Path, config: Option<&Path>) -> ModelSource {
    let mut source = ModelSource::new(id, Device::CPU);
    source.weights = vec![weights.to_owned()];
    source.config = config.map(Path::to_owned);
    source
}

/// Describes and loads an encoder, as the host does.
///
/// # Errors
///
/// The plugin's error.
pub fn load_encoder(library: &Library, request: &EncoderRequest) -> Result<Encoder, CallError> {
    library.load_encoder(request, &library.describe_encoder(request)?)
}

/// Describes and loads a language model, as the host does.
///
/// # Errors
///
/// The plugin's error.
pub fn load_llm(
    library: &Library,
    request: &LanguageModelRequest,
) -> Result<LanguageModel, CallError> {
    library.load_llm(request, &library.describe_llm(request)?)
}
