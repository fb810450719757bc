//! A shared library like any other: it exports nothing that the host looks for.

/// Something to export, so that there is a library at all.
#[unsafe(no_mangle)]
pub extern "C" fn answer() -> u32 {
    42
}
