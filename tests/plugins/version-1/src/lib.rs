//! A plugin of version 1 of the API, as far as a host of version 2 sees it: it exports a function that makes the manifest,
//! and has no section with it.

use std::ffi::c_char;

/// The manifest, which hosts of version 1 asked for.
#[unsafe(no_mangle)]
pub extern "C" fn merv_plugin_manifest() -> *const c_char {
    cr#"{
        "name": "version-1", "version": "0.1.0", "api_version": "1.1.0", "license": "MIT",
        "backend": "own", "devices": ["cpu"],
        "models": [{ "id": "first-pixel", "kind": "encoder", "license": "no weights" }]
    }"#
    .as_ptr()
}
