//! Checks of a library before it is opened. The dynamic linker maps a truncated file without an error, and the
//! process is killed by SIGBUS when it accesses the missing part.

use object::{
    Endianness,
    elf::FileHeader64,
    read::{ReadCache, elf::FileHeader},
};
use std::{fs::File, io, path::Path};

/// Returns the reason why a file is not a complete shared library for this machine, according to its headers.
/// Only files on Linux are checked.
pub(super) fn damage(path: &Path) -> io::Result<Option<String>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Ok(Some("it is not a file".to_owned()));
    }
    let length = metadata.len();
    if length == 0 {
        return Ok(Some("the file is empty".to_owned()));
    }
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    Ok(match end(&ReadCache::new(File::open(path)?)) {
        Err(error) => Some(format!("it is not a shared library ({error})")),
        Ok(end) if end > length => Some(format!(
            "the file is truncated: expected at least {end} bytes, found {length}"
        )),
        Ok(_) => None,
    })
}

/// Returns the end of the last segment or of the section table, whichever is later.
fn end(data: &ReadCache<File>) -> object::read::Result<u64> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let segments = segments.iter().map(|segment| {
        segment
            .p_offset
            .get(endian)
            .saturating_add(segment.p_filesz.get(endian))
    });
    let size = u64::from(header.e_shnum.get(endian)) * u64::from(header.e_shentsize.get(endian));
    let table = header.e_shoff.get(endian).saturating_add(size);
    Ok(segments.max().unwrap_or(0).max(table))
}
