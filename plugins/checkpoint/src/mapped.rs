//! Memory-mapped files.

use crate::CheckpointError;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use memmap2::{Mmap, MmapMut};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A file that is mapped into memory for reading.
pub(crate) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps `path`, which must be a file.
    pub fn open(path: &Path) -> Result<Arc<Self>, CheckpointError> {
        let mapped = || {
            // Checked before opening, because opening a pipe would wait for its writer.
            if !path.metadata()?.is_file() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "expected a file, found a folder or a device",
                ));
            }
            let file = File::open(path)?;
            // SAFETY: the map is only read. If another process shortens the file, a read past its new
            // end kills this process, as with every mapped model file. Weights are therefore replaced by
            // renaming, never in place.
            unsafe { Mmap::map(&file) }
        };
        match mapped() {
            Ok(map) => Ok(Arc::new(Self {
                path: path.to_path_buf(),
                map,
            })),
            Err(source) => Err(CheckpointError::Open {
                path: path.to_path_buf(),
                source,
            }),
        }
    }

    /// Copies `bytes` into memory that is not backed by a file.
    pub fn in_memory(bytes: &[u8]) -> io::Result<Arc<Self>> {
        let mut map = MmapMut::map_anon(bytes.len())?;
        map.copy_from_slice(bytes);
        Ok(Arc::new(Self {
            path: PathBuf::new(),
            map: map.make_read_only()?,
        }))
    }

    /// Returns the path of the file, as it was passed to [`Self::open`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Releases the pages that are in memory. The system reads them again when they are needed.
    pub fn release(&self) {
        // SAFETY: the map is only read, so the system can drop its pages and read them again unchanged.
        #[cfg(unix)]
        let result = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        // If the system does not take the advice, the pages stay in memory, which is harmless.
        #[cfg(unix)]
        drop(result);
    }

    /// Returns the contents of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Makes the error of a damaged file.
    pub fn damaged(&self, format: &'static str, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged {
            path: self.path.clone(),
            format,
            what: what.into(),
        }
    }

    /// Makes the error of a file with unsupported contents.
    pub fn unsupported(&self, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Unsupported {
            path: self.path.clone(),
            what: what.into(),
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use std::fs;

    /// Returns how many kilobytes of the file are in this process's memory, according to Linux.
    fn resident(path: &Path) -> usize {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let name = path.to_str().unwrap();
        let mut lines = maps.lines().skip_while(|line| !line.ends_with(name));
        let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
        size.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn released_pages_take_no_memory_and_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let bytes: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        let file = MappedFile::open(&path).unwrap();
        assert!(file.bytes() == bytes);
        assert_eq!(resident(&path), 1024);
        file.release();
        assert_eq!(resident(&path), 0);
        assert!(file.bytes() == bytes);
    }
}
