//! A shared library that is not a plugin: it has nothing that the host looks for. On Linux it starts a thread when it
//! is loaded, which the host must not do.

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
        let _ = Builder::new().name("initialiser".to_owned()).spawn(|| {
            loop {
                sleep(Duration::from_millis(1));
            }
        });
    }
}

/// A function to export, because a library needs one.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> u32 {
    42
}
