//! A look at a library before it is opened: the dynamic linker maps a file that was cut off without
//! complaint, and the process dies of SIGBUS when it touches the missing part.

use object::{
    Endianness,
    elf::FileHeader64,
    read::{ReadCache, elf::FileHeader},
};
use std::{fs::File, io, path::Path};

/// Why a file is no whole shared library for this machine, as far as its headers tell; files of systems
/// other than Linux are left to their linker.
pub(super) fn damage(path: &Path) -> io::Result<Option<String>> {
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Ok(Some("it is no file".to_owned()));
    }
    let length = about.len();
    if length == 0 {
        return Ok(Some("the file is empty".to_owned()));
    }
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    Ok(match end(&ReadCache::new(File::open(path)?)) {
        Err(error) => Some(format!("it is no shared library ({error})")),
        Ok(end) if end > length => Some(format!(
            "the file is cut off: it has {length} bytes of at least {end}"
        )),
        Ok(_) => None,
    })
}

/// Where the last segment or the section table ends, whichever is later.
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
