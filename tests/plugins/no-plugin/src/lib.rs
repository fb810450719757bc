//! A shared library like any other: it exports nothing that the host looks for. On Linux it starts a
//! thread as it is loaded, which dies of SIGSEGV if the library is taken away from under it.

#[cfg(target_os = "linux")]
mod initialiser {
    use std::{
        thread::{Builder, sleep},
        time::Duration,
    };

    #[used]
    // SAFETY: what lies in this section is called once, as the library is loaded; the C library's
    // arguments are left unread.
    #[unsafe(link_section = ".init_array")]
    static START: extern "C" fn() = start;

    extern "C" fn start() {
        // Without the thread there is nothing to test, and its test says so.
        let _ = Builder::new().name("initialiser".to_owned()).spawn(|| {
            loop {
                sleep(Duration::from_millis(1));
            }
        });
    }
}

/// Something to export, so that there is a library at all.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> u32 {
    42
}
