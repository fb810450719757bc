//! Writes long JSON lists atomically, with one element per line.

use super::SynthError;
use crate::disk::whole_file::WholeFile;
use serde::Serialize;
use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// An unfinished list. It is removed if it is dropped before it is finished.
pub(super) struct JsonList {
    path: PathBuf,
    file: BufWriter<WholeFile>,
    items: usize,
}

impl JsonList {
    pub fn begin(path: &Path) -> Result<Self, SynthError> {
        let file = WholeFile::begin(path).map_err(SynthError::write(path))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            items: 0,
        })
    }

    pub fn push(&mut self, item: &impl Serialize) -> Result<(), SynthError> {
        let before = if self.items == 0 { "[\n" } else { ",\n" };
        self.items += 1;
        let json = serde_json::to_string(item).map_err(io::Error::from);
        json.and_then(|json| write!(self.file, "{before}{json}"))
            .map_err(SynthError::write(&self.path))
    }

    /// Moves the list to its final path, and returns the number of items.
    pub fn finish(mut self) -> Result<usize, SynthError> {
        let end = if self.items == 0 { "[]\n" } else { "\n]\n" };
        let written = write!(self.file, "{end}");
        written
            .and_then(|()| self.file.into_inner().map_err(io::Error::from)?.finish())
            .map_err(SynthError::write(&self.path))?;
        Ok(self.items)
    }
}
