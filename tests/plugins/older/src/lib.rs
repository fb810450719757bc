//! A plugin for version 1.0 of the ABI, which had no training. Its trait objects are copied here from that version. Types
//! that are passed by value have not changed since.

// `#[sabi_trait]` of abi_stable 0.11.3 expands to impls inside an anonymous constant.
#![allow(non_local_definitions, missing_docs)]

use abi_stable::{
    StableAbi,
    library::{
        __call_root_module_loader, CheckTypeLayout, LibHeader, RootModule, RootModuleResult,
    },
    package_version_strings,
    prefix_type::PrefixTypeTrait,
    sabi_trait,
    sabi_types::VersionStrings,
    std_types::{RBox, RResult, RSlice},
    type_level::downcasting::TD_Opaque,
};
use merv_plugin_api::{
    DType, EncoderInfo, EncoderRequest, HostServices, Interpolation, LanguageModelInfo,
    LanguageModelRequest, LogitsAt, PluginError, PreprocessSpec, ResizeDomain, SessionId,
    TensorBuf, TensorView, guard,
};
use std::ffi::c_char;

#[sabi_trait]
pub trait EncoderAbi: Send + Sync {
    fn info(&self) -> EncoderInfo;
    #[sabi(last_prefix_field)]
    fn encode(&self, clips: TensorView<'_>) -> RResult<TensorBuf, PluginError>;
}

#[repr(transparent)]
#[derive(StableAbi)]
pub struct EncoderObject(EncoderAbi_TO<'static, RBox<()>>);

#[sabi_trait]
pub trait LanguageModelAbi: Send + Sync {
    fn info(&self) -> LanguageModelInfo;
    fn embed(&self, ids: RSlice<'_, u32>) -> RResult<TensorBuf, PluginError>;
    fn open(&self) -> RResult<SessionId, PluginError>;
    fn close(&self, session: SessionId);
    fn prefill(
        &self,
        session: SessionId,
        embeds: TensorView<'_>,
        logits: LogitsAt,
    ) -> RResult<TensorBuf, PluginError>;
    fn decode(
        &self,
        sessions: RSlice<'_, SessionId>,
        tokens: RSlice<'_, u32>,
    ) -> RResult<TensorBuf, PluginError>;
    fn fork(&self, session: SessionId) -> RResult<SessionId, PluginError>;
    #[sabi(last_prefix_field)]
    fn truncate(&self, session: SessionId, length: usize) -> RResult<(), PluginError>;
}

#[repr(transparent)]
#[derive(StableAbi)]
pub struct LanguageModelObject(LanguageModelAbi_TO<'static, RBox<()>>);

#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(option))]
pub struct PluginModule {
    pub init: extern "C" fn(HostServices) -> RResult<(), PluginError>,
    pub describe_encoder: extern "C" fn(&EncoderRequest) -> RResult<EncoderInfo, PluginError>,
    pub load_encoder: extern "C" fn(&EncoderRequest) -> RResult<EncoderObject, PluginError>,
    pub describe_llm:
        extern "C" fn(&LanguageModelRequest) -> RResult<LanguageModelInfo, PluginError>,
    #[sabi(last_prefix_field)]
    pub load_llm: extern "C" fn(&LanguageModelRequest) -> RResult<LanguageModelObject, PluginError>,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "merv_plugin";
    const NAME: &'static str = "merv_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// Returns the first value of each frame as its feature.
struct FirstPixel(EncoderInfo);

impl EncoderAbi for FirstPixel {
    fn info(&self) -> EncoderInfo {
        self.0.clone()
    }

    fn encode(&self, clips: TensorView<'_>) -> RResult<TensorBuf, PluginError> {
        guard("encode", || {
            let [batch, frames, channels, height, width] = clips.dims::<5>()?;
            let all = clips.f32s()?.chunks_exact(channels * height * width);
            let first = all.filter_map(|frame| frame.first().copied()).collect();
            TensorBuf::from_vec::<f32>(first, &[batch, frames, 1])
        })
    }
}

extern "C" fn init(_: HostServices) -> RResult<(), PluginError> {
    RResult::ROk(())
}

extern "C" fn describe_encoder(request: &EncoderRequest) -> RResult<EncoderInfo, PluginError> {
    RResult::ROk(EncoderInfo {
        width: 1,
        num_frames: request.num_frames,
        image_size: 2,
        temporal: request.num_frames,
        spatial: 1,
        preprocess: PreprocessSpec {
            image_size: 2,
            short_side: 2,
            interpolation: Interpolation::Bilinear,
            domain: ResizeDomain::PillowU8,
            mean: [0.0; 3],
            std: [1.0; 3],
        },
        dtype: DType::F32,
        parameters: 0,
        macs_per_clip: 0,
    })
}

extern "C" fn load_encoder(request: &EncoderRequest) -> RResult<EncoderObject, PluginError> {
    describe_encoder(request)
        .map(|info| EncoderObject(EncoderAbi_TO::from_value(FirstPixel(info), TD_Opaque)))
}

fn no_llm<T>() -> RResult<T, PluginError> {
    RResult::RErr(PluginError::unsupported(
        "this plugin has no language model",
    ))
}

extern "C" fn describe_llm(_: &LanguageModelRequest) -> RResult<LanguageModelInfo, PluginError> {
    no_llm()
}

extern "C" fn load_llm(_: &LanguageModelRequest) -> RResult<LanguageModelObject, PluginError> {
    no_llm()
}

extern "C" fn module() -> RootModuleResult {
    __call_root_module_loader(|| {
        PluginModule {
            init,
            describe_encoder,
            load_encoder,
            describe_llm,
            load_llm,
        }
        .leak_into_prefix()
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn merv_plugin_manifest() -> *const c_char {
    cr#"{
        "name": "older", "version": "0.1.0", "api_version": "1.0.0", "license": "MIT",
        "backend": "own", "devices": ["cpu"],
        "models": [{ "id": "first-pixel", "kind": "encoder", "license": "no weights" }]
    }"#
    .as_ptr()
}

#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static merv_plugin_root: LibHeader =
    // SAFETY: `module` returns an erased `PluginModuleRef`.
    unsafe { LibHeader::from_constructor::<PluginModuleRef>(module, CheckTypeLayout::Yes) };
