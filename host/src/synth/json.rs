//! Long JSON lists, an element a line, that are there whole or not at all.

use super::SynthError;
use crate::whole_file;
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// A list in the making; removed when it is dropped before it is finished.
pub(super) struct JsonList {
    path: PathBuf,
    partial: PathBuf,
    file: Option<BufWriter<File>>,
    items: usize,
}

impl JsonList {
    pub fn begin(path: &Path) -> Result<Self, SynthError> {
        let partial = whole_file::partial(path);
        let file = File::create_new(&partial).map_err(SynthError::write(path))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file: Some(BufWriter::new(file)),
            items: 0,
        })
    }

    pub fn push(&mut self, item: &impl Serialize) -> Result<(), SynthError> {
        let before = if self.items == 0 { "[\n" } else { ",\n" };
        self.items += 1;
        let json = serde_json::to_string(item).map_err(io::Error::from);
        json.and_then(|json| self.write(&format!("{before}{json}")))
            .map_err(SynthError::write(&self.path))
    }

    /// Puts the list in its place; returns how many items it has.
    pub fn finish(mut self) -> Result<usize, SynthError> {
        let end = if self.items == 0 { "[]\n" } else { "\n]\n" };
        self.write(end)
            .and_then(|()| match self.file.take() {
                Some(file) => file.into_inner().map_err(io::Error::from)?.sync_all(),
                None => Ok(()),
            })
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .map_err(SynthError::write(&self.path))?;
        Ok(self.items)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        match &mut self.file {
            Some(file) => file.write_all(text.as_bytes()),
            None => Ok(()),
        }
    }
}

impl Drop for JsonList {
    fn drop(&mut self) {
        // After it was finished there is nothing of that name.
        let _ = fs::remove_file(&self.partial);
    }
}
