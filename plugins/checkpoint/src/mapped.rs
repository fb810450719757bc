//! A file in memory.

use crate::CheckpointError;
use memmap2::Mmap;
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
    /// Maps `path`, which must be a file with something in it.
    pub fn open(path: &Path) -> Result<Arc<Self>, CheckpointError> {
        let mapped = || {
            // Asked before opening: a pipe would wait for its writer.
            if !path.metadata()?.is_file() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "expected a file, found a folder or a device",
                ));
            }
            let file = File::open(path)?;
            // SAFETY: the map is only read. Another process that shortens the file meanwhile would end
            // this one, as with every mapped model file; weights are replaced by renaming, never in
            // place.
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

    /// The file's path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// That the file is not whole.
    pub fn damaged(&self, format: &'static str, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged {
            path: self.path.clone(),
            format,
            what: what.into(),
        }
    }

    /// That the file holds what cannot be read.
    pub fn unsupported(&self, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Unsupported {
            path: self.path.clone(),
            what: what.into(),
        }
    }
}
