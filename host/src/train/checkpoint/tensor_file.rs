//! Writes a safetensors file one tensor at a time, and computes its digest. A large model is never in memory
//! as a whole.

use crate::disk::{digest::Sha256Digest, tensor_names::check_names};
use merv_plugin_api::PluginError;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// A file that is being written. The header comes first, so all names and shapes must be known in advance.
pub(super) struct TensorFile {
    file: BufWriter<File>,
    hasher: Sha256,
    bytes: u64,
    /// The names and lengths in bytes of the tensors that remain, in reverse order.
    expected: Vec<(String, usize)>,
}

/// The digest and length of a complete file.
pub(super) struct WrittenFile {
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

/// A tensor that will be written: its name, its safetensors type, and its shape.
pub(super) struct TensorSpec {
    pub(super) name: String,
    pub(super) dtype: &'static str,
    pub(super) bits: usize,
    pub(super) shape: Vec<usize>,
}

impl TensorFile {
    /// Starts a file, which must not exist yet. The file is not created if it cannot contain one of the names.
    pub(super) fn create(path: &Path, tensors: &[TensorSpec]) -> io::Result<Self> {
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
        // Aligns the data for any number type.
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

    /// Writes the numbers of the next tensor.
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

    /// Writes the bytes of the next tensor.
    pub(super) fn raw(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.next(name, bytes.len())?;
        self.put(bytes)
    }

    fn next(&mut self, name: &str, bytes: usize) -> io::Result<()> {
        match self.expected.pop() {
            Some((expected, length)) if expected == name && length == bytes => Ok(()),
            Some((expected, length)) => Err(io::Error::other(format!(
                "found `{name}` of {bytes} bytes, expected `{expected}` of {length} bytes"
            ))),
            None => Err(io::Error::other(format!("`{name}` is not expected"))),
        }
    }

    /// Completes the file and syncs it to the disk.
    pub(super) fn finish(self) -> io::Result<WrittenFile> {
        if let Some((missing, _)) = self.expected.last() {
            return Err(io::Error::other(format!("`{missing}` was not written")));
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

/// Converts an I/O error so that a plugin, which only knows its own errors, can pass it on.
pub(super) fn through_plugin(error: &io::Error) -> PluginError {
    PluginError::invalid(error.to_string())
}
