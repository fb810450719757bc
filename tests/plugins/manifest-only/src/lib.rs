//! A library that has only a manifest, of an API version that does not exist yet. Tests write other texts over it. On Linux
//! it starts a thread when it is loaded, which would end with SIGSEGV if the library were unloaded.

#[cfg(target_os = "linux")]
mod initialiser {
    use std::{
        thread::{Builder, sleep},
        time::Duration,
    };

    #[used]
    // SAFETY: functions in this section are called once, when the library is loaded. The function does not read the
    // arguments from the C library.
    #[unsafe(link_section = ".init_array")]
    static START: extern "C" fn() = start;

    extern "C" fn start() {
        // If the thread cannot be started, the test reports that.
        let _ = Builder::new().name("manifest-only".to_owned()).spawn(|| {
            loop {
                sleep(Duration::from_millis(1));
            }
        });
    }
}

const FUTURE: &str = r#"{
    "api_version": "99.0.0", "name": "manifest-only", "version": "0.1.0", "license": "MIT",
    "backend": "own", "devices": ["cpu"],
    "provides": [{ "id": "from-the-future", "kind": "smell", "license": "no weights" }]
}"#;

/// The manifest, followed by spaces: JSON may end with them.
#[used]
#[unsafe(no_mangle)]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__merv_plugin"))]
#[cfg_attr(windows, unsafe(link_section = ".mervpl"))]
#[cfg_attr(
    not(any(target_vendor = "apple", windows)),
    unsafe(link_section = ".merv.plugin")
)]
#[allow(non_upper_case_globals)]
pub static merv_plugin_2_manifest: [u8; 1024] = {
    let (mut padded, text) = ([b' '; 1024], FUTURE.as_bytes());
    let mut index = 0;
    while index < text.len() {
        padded[index] = text[index];
        index += 1;
    }
    padded
};
