//! A library that exports a manifest and nothing else: of an API that does not exist yet, or whatever
//! `$MERV_TEST_MANIFEST` holds; a null pointer if that is empty.

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

/// What the host reads before anything else.
#[unsafe(no_mangle)]
pub extern "C" fn merv_plugin_manifest() -> *const c_char {
    static JSON: OnceLock<Option<CString>> = OnceLock::new();
    let json = JSON.get_or_init(|| {
        let text = env::var("MERV_TEST_MANIFEST").unwrap_or_else(|_| FUTURE.to_owned());
        CString::new(text).ok().filter(|text| !text.is_empty())
    });
    json.as_ref().map_or(null(), |text| text.as_ptr())
}
