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
use merv_plugin_api::{Manifest, Provided};

const MANIFEST: Manifest = Manifest::new("wrong-layout", "0.1.0")
    .license("MIT")
    .provides(&[Provided::encoder("misplaced", "no weights")]);

/// The manifest. It is correct.
#[used]
#[unsafe(no_mangle)]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__merv_plugin"))]
#[cfg_attr(windows, unsafe(link_section = ".mervpl"))]
#[cfg_attr(
    not(any(target_vendor = "apple", windows)),
    unsafe(link_section = ".merv.plugin")
)]
#[allow(non_upper_case_globals)]
pub static merv_plugin_2_manifest: [u8; MANIFEST.json_len()] = MANIFEST.json();

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
pub static merv_plugin_2_root: LibHeader =
    // SAFETY: `module` returns an erased `PluginModuleRef`.
    unsafe { LibHeader::from_constructor::<PluginModuleRef>(module, CheckTypeLayout::Yes) };
