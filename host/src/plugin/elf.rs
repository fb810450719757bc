//! A look at a library before it is opened: the dynamic linker maps a file that was cut off without
//! complaint, and the process dies of SIGBUS when it touches the missing part.

use object::{Endianness, elf::FileHeader64, read::elf::FileHeader};
use std::{fs::File, path::Path};

/// Why a file is no whole shared library for this machine, if it is an ELF file at all that this can
/// tell of; other formats are left to the system's linker.
pub(super) fn damage(path: &Path) -> std::io::Result<Option<String>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(Some("the file is empty".to_owned()));
    }
    // SAFETY: the map is only read, for the length of this function.
    let data = unsafe { memmap2::Mmap::map(&file) }?;
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let parsed = (|| {
        let header = FileHeader64::<Endianness>::parse(&*data)?;
        let endian = header.endian()?;
        let segments = header.program_headers(endian, &*data)?;
        let end = segments.iter().map(|segment| {
            segment
                .p_offset
                .get(endian)
                .saturating_add(segment.p_filesz.get(endian))
        });
        // The section table comes last in a file: when it is there, so is everything.
        let sections =
            u64::from(header.e_shnum.get(endian)) * u64::from(header.e_shentsize.get(endian));
        let table = header.e_shoff.get(endian).saturating_add(sections);
        Ok::<_, object::read::Error>(end.max().unwrap_or(0).max(table))
    })();
    Ok(match parsed {
        Err(error) => Some(format!("it is no shared library ({error})")),
        Ok(end) if end > length => Some(format!(
            "the file is cut off: it has {length} bytes of at least {end}"
        )),
        Ok(_) => None,
    })
}
