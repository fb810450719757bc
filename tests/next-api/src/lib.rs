//! A next minor version of the plugin ABI, for tests of compatibility: the root module has one more function, and encoders
//! have one more method. Everything else is as in the current version.

// `#[sabi_trait]` of abi_stable 0.11.3 expands to impls inside an anonymous constant.
#![allow(non_local_definitions)]

use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings, sabi_trait,
    sabi_types::VersionStrings,
    std_types::{RBox, RResult},
};
use merv_plugin_api::{
    EncoderInfo, EncoderRequest, FeaturesAndTape, HostServices, LanguageModelInfo,
    LanguageModelObject, LanguageModelRequest, PluginError, TapeId, TensorBuf, TensorView,
    TrainableObject,
};

/// The error of [`EncoderAbi::encode_sound`] for an encoder of an older version.
pub const NO_SOUND: &str = "built against an API without sound";

fn old<T>() -> RResult<T, PluginError> {
    RResult::RErr(PluginError::unsupported("older still"))
}

/// The trait of the current version, with the new method `encode_sound`.
#[sabi_trait]
#[doc(hidden)]
pub trait EncoderAbi: Send + Sync {
    fn info(&self) -> EncoderInfo;
    #[sabi(last_prefix_field)]
    fn encode(&self, clips: TensorView<'_>) -> RResult<TensorBuf, PluginError>;
    fn training(&self) -> RResult<TrainableObject, PluginError> {
        old()
    }
    fn forward_train(&self, _clips: TensorView<'_>) -> RResult<FeaturesAndTape, PluginError> {
        old()
    }
    fn backward(&self, _tape: TapeId, _gradient: TensorView<'_>) -> RResult<(), PluginError> {
        old()
    }
    fn forget(&self, _tape: TapeId) {}
    fn encode_sound(&self, _sound: TensorView<'_>) -> RResult<TensorBuf, PluginError> {
        RResult::RErr(PluginError::unsupported(NO_SOUND))
    }
}

/// The type of the current version.
#[repr(transparent)]
#[derive(StableAbi)]
pub struct EncoderObject(pub EncoderAbi_TO<'static, RBox<()>>);

/// The root module of the current version, with the new function `listen`.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    /// As in the current version.
    pub init: extern "C" fn(HostServices) -> RResult<(), PluginError>,
    /// As in the current version.
    pub describe_encoder: extern "C" fn(&EncoderRequest) -> RResult<EncoderInfo, PluginError>,
    /// As in the current version.
    pub load_encoder: extern "C" fn(&EncoderRequest) -> RResult<EncoderObject, PluginError>,
    /// As in the current version.
    pub describe_llm:
        extern "C" fn(&LanguageModelRequest) -> RResult<LanguageModelInfo, PluginError>,
    /// As in the current version.
    #[sabi(last_prefix_field)]
    pub load_llm: extern "C" fn(&LanguageModelRequest) -> RResult<LanguageModelObject, PluginError>,
    /// New in this version.
    #[sabi(missing_field(option))]
    pub listen: extern "C" fn(TensorView<'_>) -> RResult<(), PluginError>,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "merv_plugin";
    const NAME: &'static str = "merv_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
