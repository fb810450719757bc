//! A safetensors file of `f32`, written tensor after tensor as they come, with the digest of what was
//! written: the parts of a large model are never held together in memory.

use crate::disk::{digest::Sha256Digest, tensor_names::check_names};
use merv_plugin_api::PluginError;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// A file in the making. The header is written first, so that all names and shapes are known before.
pub(super) struct TensorFile {
    file: BufWriter<File>,
    hasher: Sha256,
    bytes: u64,
    /// Names and numbers of elements of what is still to come, last first.
    expected: Vec<(String, usize)>,
}

/// What was written.
pub(super) struct WrittenFile {
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

/// A tensor that will be written: its name, its type as safetensors names it, and its shape.
pub(super) struct Announced {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    pub(super) bits: usize,
    pub(super) shape: Vec<usize>,
}

impl TensorFile {
    /// Begins a file that must not be there. It is not made if a name cannot stand in it.
    pub(super) fn create(path: &Path, tensors: &[Announced]) -> io::Result<Self> {
        check_names(tensors.iter().map(|tensor| tensor.name.as_str()))?;
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
        let mut at = 0;
        let mut expected = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let bytes = tensor.shape.iter().product::<usize>() * tensor.bits / 8;
            let entry = json!({
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "data_offsets": [at, at + bytes],
            });
            header.insert(tensor.name.clone(), entry);
            at += bytes;
            expected.push((tensor.name.clone(), bytes));
        }
        expected.reverse();
        let mut header = Value::Object(header).to_string().into_bytes();
        // The data then lies where any number may.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = Self {
            file: BufWriter::with_capacity(1 << 20, File::create_new(path)?),
            hasher: Sha256::new(),
            bytes: 0,
            expected,
        };
        file.put(&(header.len() as u64).to_le_bytes())?;
        file.put(&header)?;
        Ok(file)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// The next tensor's numbers.
    pub(super) fn f32s(&mut self, name: &str, values: &[f32]) -> io::Result<()> {
        const TOGETHER: usize = 1 << 14;
        self.next(name, values.len() * 4)?;
        let mut bytes = Vec::with_capacity(TOGETHER * 4);
        for chunk in values.chunks(TOGETHER) {
            bytes.clear();
            bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
            self.put(&bytes)?;
        }
        Ok(())
    }

    /// The next tensor's bytes.
    pub(super) fn raw(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.next(name, bytes.len())?;
        self.put(bytes)
    }

    fn next(&mut self, name: &str, bytes: usize) -> io::Result<()> {
        match self.expected.pop() {
            Some((expected, length)) if expected == name && length == bytes => Ok(()),
            Some((expected, length)) => Err(io::Error::other(format!(
                "`{name}` of {bytes} bytes came where `{expected}` of {length} bytes was announced"
            ))),
            None => Err(io::Error::other(format!("`{name}` was not announced"))),
        }
    }

    /// Ends the file; it is on the disk then.
    pub(super) fn finish(self) -> io::Result<WrittenFile> {
        if let Some((missing, _)) = self.expected.last() {
            return Err(io::Error::other(format!("`{missing}` never came")));
        }
        let file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(WrittenFile {
            sha256: Sha256Digest::finish(self.hasher).to_string(),
            bytes: self.bytes,
        })
    }
}

/// An error of the disk on its way through a plugin, which knows only its own kind.
pub(super) fn through_plugin(error: &io::Error) -> PluginError {
    PluginError::invalid(error.to_string())
}
