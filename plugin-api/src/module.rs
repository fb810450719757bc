//! The root module of a library: the functions that every plugin exports, and the macro that exports them.

use crate::{
    EncoderInfo, EncoderObject, EncoderRequest, HostServices, LanguageModelInfo,
    LanguageModelObject, LanguageModelRequest, Manifest, PluginError, guard, host,
};
use abi_stable::{
    StableAbi, library::RootModule, package_version_strings, prefix_type::PrefixTypeTrait,
    sabi_types::VersionStrings, std_types::RResult,
};
use std::{
    ffi::{CString, c_char},
    panic::catch_unwind,
    sync::OnceLock,
};

/// The static of type `LibHeader` that holds the layouts and creates the [`PluginModule`].
pub const ROOT_SYMBOL: &str = "merv_plugin_root";

/// A plugin. An author implements this trait once per library; methods for models that the plugin does
/// not provide may be omitted.
pub trait Plugin: 'static {
    /// Returns the plugin's name and the models that it can load.
    fn manifest() -> Manifest;

    /// Initialises the plugin. Called once, before anything is described or loaded.
    ///
    /// # Errors
    ///
    /// When the plugin does not work on this machine. The plugin is then listed with this error.
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
}

fn not_provided(kind: &str, id: &str) -> PluginError {
    PluginError::unsupported(format!(
        "this plugin does not provide {kind}, so it cannot load `{id}`"
    ))
}

/// The functions of a loaded library. Each runs inside [`guard`].
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(option))]
pub struct PluginModule {
    /// See [`Plugin::init`].
    pub init: extern "C" fn(HostServices) -> RResult<(), PluginError>,
    /// See [`Plugin::describe_encoder`].
    pub describe_encoder: extern "C" fn(&EncoderRequest) -> RResult<EncoderInfo, PluginError>,
    /// See [`Plugin::load_encoder`].
    pub load_encoder: extern "C" fn(&EncoderRequest) -> RResult<EncoderObject, PluginError>,
    /// See [`Plugin::describe_llm`].
    pub describe_llm:
        extern "C" fn(&LanguageModelRequest) -> RResult<LanguageModelInfo, PluginError>,
    /// See [`Plugin::load_llm`].
    #[sabi(last_prefix_field)]
    pub load_llm: extern "C" fn(&LanguageModelRequest) -> RResult<LanguageModelObject, PluginError>,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "merv_plugin";
    const NAME: &'static str = "merv_plugin";
    // Not used: the host compares the manifest's API version instead, because abi_stable's own rule refuses
    // plugins that are older than the host.
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

impl PluginModuleRef {
    /// Returns the module of `P`. Called by [`crate::export_plugin!`] and by tests without a library.
    pub fn of<P: Plugin>() -> Self {
        PluginModule {
            init: init::<P>,
            describe_encoder: describe_encoder::<P>,
            load_encoder: load_encoder::<P>,
            describe_llm: describe_llm::<P>,
            load_llm: load_llm::<P>,
        }
        .leak_into_prefix()
    }
}

extern "C" fn init<P: Plugin>(services: HostServices) -> RResult<(), PluginError> {
    guard("init", || P::init(host::keep(services)))
}

extern "C" fn describe_encoder<P: Plugin>(
    request: &EncoderRequest,
) -> RResult<EncoderInfo, PluginError> {
    guard("describe_encoder", || P::describe_encoder(request))
}

extern "C" fn load_encoder<P: Plugin>(
    request: &EncoderRequest,
) -> RResult<EncoderObject, PluginError> {
    guard("load_encoder", || P::load_encoder(request))
}

extern "C" fn describe_llm<P: Plugin>(
    request: &LanguageModelRequest,
) -> RResult<LanguageModelInfo, PluginError> {
    guard("describe_llm", || P::describe_llm(request))
}

extern "C" fn load_llm<P: Plugin>(
    request: &LanguageModelRequest,
) -> RResult<LanguageModelObject, PluginError> {
    guard("load_llm", || P::load_llm(request))
}

/// Returns a pointer to the manifest of `P` as JSON, which stays valid, or null if it could not be made.
#[doc(hidden)]
pub fn manifest_json<P: Plugin>(cell: &'static OnceLock<Option<CString>>) -> *const c_char {
    let json = cell.get_or_init(|| {
        let text = catch_unwind(|| serde_json::to_string(&P::manifest()))
            .ok()?
            .ok()?;
        CString::new(text).ok()
    });
    json.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
}

/// Exports a [`Plugin`](crate::Plugin) from a `cdylib`: the manifest symbol and the root module.
///
/// Use it once, at the root of the crate. The crate needs no other dependency. Two crates that use it
/// cannot be linked into one binary, so tests must load plugins as libraries too.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        const _: () = {
            use $crate::abi_stable::library::{
                __call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult,
            };

            #[unsafe(no_mangle)]
            extern "C" fn merv_plugin_manifest() -> *const ::std::ffi::c_char {
                static JSON: ::std::sync::OnceLock<::std::option::Option<::std::ffi::CString>> =
                    ::std::sync::OnceLock::new();
                $crate::module::manifest_json::<$plugin>(&JSON)
            }

            extern "C" fn merv_plugin_module() -> RootModuleResult {
                __call_root_module_loader($crate::PluginModuleRef::of::<$plugin>)
            }

            #[unsafe(no_mangle)]
            #[allow(non_upper_case_globals)]
            static merv_plugin_root: LibHeader =
                // SAFETY: `merv_plugin_module` returns an erased `PluginModuleRef`.
                unsafe {
                    LibHeader::from_constructor::<$crate::PluginModuleRef>(
                        merv_plugin_module,
                        CheckTypeLayout::Yes,
                    )
                };
        };
    };
}
