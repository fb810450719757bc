//! What the author of a library implements.

use crate::{
    CollectiveObject, CollectiveRequest, DeviceServiceObject, EncoderInfo, EncoderObject,
    EncoderRequest, HostServices, LanguageModelInfo, LanguageModelObject, LanguageModelRequest,
    Manifest, MixerInfo, MixerObject, MixerRequest, MixerWeights, PluginError,
};

/// A plugin. An author implements this trait once per library; methods for models that the plugin does
/// not provide may be omitted.
pub trait Plugin: 'static {
    /// The plugin's name, and what it provides.
    const MANIFEST: Manifest;

    /// Initialises the plugin. Called once, before anything is described or loaded.
    ///
    /// # Errors
    ///
    /// When the plugin does not work on this machine.
    fn init(_host: &HostServices) -> Result<(), PluginError> {
        Ok(())
    }

    /// Describes an encoder without reading its weights.
    ///
    /// # Errors
    ///
    /// When the id is unknown or the config does not match it.
    fn describe_encoder(request: &EncoderRequest) -> Result<EncoderInfo, PluginError> {
        Err(not_provided("encoders", &request.model.id))
    }

    /// Loads an encoder.
    ///
    /// # Errors
    ///
    /// When it cannot be described, or its weights do not match the description.
    fn load_encoder(request: &EncoderRequest) -> Result<EncoderObject, PluginError> {
        Err(not_provided("encoders", &request.model.id))
    }

    /// Describes a language model without reading its weights.
    ///
    /// # Errors
    ///
    /// When the id is unknown or the config does not match it.
    fn describe_llm(request: &LanguageModelRequest) -> Result<LanguageModelInfo, PluginError> {
        Err(not_provided("language models", &request.model.id))
    }

    /// Loads a language model.
    ///
    /// # Errors
    ///
    /// When it cannot be described, or its weights do not match the description.
    fn load_llm(request: &LanguageModelRequest) -> Result<LanguageModelObject, PluginError> {
        Err(not_provided("language models", &request.model.id))
    }

    /// Describes a mixer or a fusion: its visual tokens and its parameters.
    ///
    /// # Errors
    ///
    /// When the id is unknown, or the mixer does not support these encoders.
    fn describe_mixer(request: &MixerRequest) -> Result<MixerInfo, PluginError> {
        Err(not_provided("mixers", &request.model.id))
    }

    /// Loads a mixer or a fusion. The host has read the weights, with the names and shapes of the description.
    ///
    /// # Errors
    ///
    /// When it cannot be described.
    fn load_mixer(
        request: &MixerRequest,
        _weights: &MixerWeights<'_>,
    ) -> Result<MixerObject, PluginError> {
        Err(not_provided("mixers", &request.model.id))
    }

    /// Joins a group of processes. Returns when all members have joined.
    ///
    /// # Errors
    ///
    /// When the id is unknown, the request contradicts the launcher or another member, or the other members did not
    /// come in time ([`crate::ErrorKind::TIMED_OUT`]).
    fn join_collective(request: &CollectiveRequest) -> Result<CollectiveObject, PluginError> {
        Err(not_provided("collectives", &request.id))
    }

    /// Returns the service for the memory of the plugin's devices. Called once, when the host first needs it.
    ///
    /// # Errors
    ///
    /// [`crate::ErrorKind::UNSUPPORTED`] when the plugin uses only main memory, which is the default.
    fn devices() -> Result<DeviceServiceObject, PluginError> {
        Err(PluginError::unsupported(
            "this plugin does not have a device service: it uses only main memory",
        ))
    }
}

fn not_provided(kind: &str, id: &str) -> PluginError {
    PluginError::unsupported(format!(
        "this plugin does not provide {kind}, so it cannot load `{id}`"
    ))
}
