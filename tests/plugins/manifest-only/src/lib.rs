//! A library that exports only a manifest. By default, the manifest is of an API version that does not exist yet.
//! `$MERV_TEST_MANIFEST` replaces it; an empty value makes it a null pointer.

use std::{
    env,
    ffi::{CString, c_char},
    ptr::null,
    sync::OnceLock,
};

const FUTURE: &str = r#"{
    "name": "manifest-only", "version": "0.1.0", "api_version": "99.0.0", "license": "MIT",
    "backend": "own", "devices": ["cpu"],
    "models": [{ "id": "from-the-future", "kind": "encoder", "license": "no weights" }]
}"#;

/// The manifest, which the host reads first.
#[unsafe(no_mangle)]
pub extern "C" fn merv_plugin_manifest() -> *const c_char {
    static JSON: OnceLock<Option<CString>> = OnceLock::new();
    let json = JSON.get_or_init(|| {
        let text = env::var("MERV_TEST_MANIFEST").unwrap_or_else(|_| FUTURE.to_owned());
        CString::new(text).ok().filter(|text| !text.is_empty())
    });
    json.as_ref().map_or(null(), |text| text.as_ptr())
}
