//! A plugin that claims the right API version, but whose root module has different fields. Calling it like the real one
//! would crash, so the layout check must refuse it.

use abi_stable::{
    StableAbi,
    library::{
        __call_root_module_loader, CheckTypeLayout, LibHeader, RootModule, RootModuleResult,
    },
    package_version_strings,
    prefix_type::PrefixTypeTrait,
    sabi_types::VersionStrings,
};
use merv_plugin_api::{Manifest, Plugin, module::manifest_json};
use std::{
    ffi::{CString, c_char},
    sync::OnceLock,
};

struct WrongLayout;

impl Plugin for WrongLayout {
    fn manifest() -> Manifest {
        Manifest::new("wrong-layout", "0.1.0")
            .license("MIT")
            .encoder("misplaced", "no weights")
    }
}

/// The manifest, which the host reads first. It is correct.
#[unsafe(no_mangle)]
pub extern "C" fn merv_plugin_manifest() -> *const c_char {
    static JSON: OnceLock<Option<CString>> = OnceLock::new();
    manifest_json::<WrongLayout>(&JSON)
}

/// A root module with the real one's name and different fields.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    /// The real function takes the host's services.
    pub init: extern "C" fn() -> u32,
    /// The real module does not have this field.
    #[sabi(last_prefix_field)]
    pub answer: u64,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "merv_plugin";
    const NAME: &'static str = "merv_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

extern "C" fn init() -> u32 {
    0
}

extern "C" fn module() -> RootModuleResult {
    __call_root_module_loader(|| PluginModule { init, answer: 42 }.leak_into_prefix())
}

/// The header that the host's layout check reads.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals)]
pub static merv_plugin_root: LibHeader =
    // SAFETY: `module` returns an erased `PluginModuleRef`.
    unsafe { LibHeader::from_constructor::<PluginModuleRef>(module, CheckTypeLayout::Yes) };
