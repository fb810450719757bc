use crate::{
    CollectiveObject, CollectiveRequest, EncoderInfo, EncoderObject, EncoderRequest, HostServices,
    LanguageModelInfo, LanguageModelObject, LanguageModelRequest, Manifest, MixerInfo, MixerObject,
    MixerRequest, MixerWeights, PluginError,
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
}

fn not_provided(kind: &str, id: &str) -> PluginError {
    PluginError::unsupported(format!(
        "this plugin does not provide {kind}, so it cannot load `{id}`"
    ))
}

/// Exports a [`Plugin`](crate::Plugin) from a `cdylib`: the section with the manifest, and the root module.
///
/// Use it once, at the root of the crate. The crate needs no other dependency. Two crates that use it
/// cannot be linked into one binary, so tests must load plugins as libraries too.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        const _: () = {
            use $crate::abi::abi_stable::library::{
                __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
            };

            const MANIFEST: $crate::Manifest = <$plugin as $crate::Plugin>::MANIFEST;

            #[used]
            #[unsafe(no_mangle)]
            #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__merv_plugin"))]
            #[cfg_attr(windows, unsafe(link_section = ".mervpl"))]
            #[cfg_attr(
                not(any(target_vendor = "apple", windows)),
                unsafe(link_section = ".merv.plugin")
            )]
            #[allow(non_upper_case_globals)]
            static merv_plugin_2_manifest: [u8; MANIFEST.json_len()] = MANIFEST.json();

            extern "C" fn merv_plugin_2_module() -> RootModuleResult {
                __call_root_module_loader($crate::module::PluginModuleRef::of::<$plugin>)
            }

            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            static merv_plugin_2_root: LibHeader =
                // SAFETY: `merv_plugin_2_module` returns an erased `PluginModuleRef`.
                unsafe {
                    LibHeader::from_constructor::<$crate::module::PluginModuleRef>(
                        merv_plugin_2_module,
                        CheckTypeLayout::Yes,
                    )
                };
        };
    };
}
