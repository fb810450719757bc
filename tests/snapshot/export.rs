/// Exports a [`Plugin`](crate::Plugin) from a `cdylib`: the section with the manifest, and the root module.
///
/// Use it once, at the root of the crate. The crate needs no other dependency. Two crates that use it
/// cannot be linked into one binary. Unit tests of the crate itself can call the methods of
/// [`Plugin`](crate::Plugin), and of the objects that it returns.
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
