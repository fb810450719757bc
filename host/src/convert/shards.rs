//! Writes tensors to safetensors files: one file, or several shards and their index.

use super::{ConvertError, numbers::converted};
use merv_plugin_sdk::checkpoint::StoredTensor;
use safetensors::{Dtype, SafeTensorError, View};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{
    borrow::Cow,
    cell::RefCell,
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

/// A file with tensors.
#[derive(Debug, Clone, Serialize)]
pub struct WrittenFile {
    /// Its path, relative to the folder.
    pub path: PathBuf,
    /// The number of tensors.
    pub tensors: usize,
    /// The size of the tensors in bytes.
    pub bytes: u64,
}

/// A tensor to write.
pub(super) struct OutputTensor<'c> {
    /// The new name.
    pub name: String,
    pub tensor: &'c StoredTensor,
    /// The new type.
    pub dtype: Dtype,
}

impl OutputTensor<'_> {
    /// Returns its size in bytes in the new type.
    pub fn bytes(&self) -> u64 {
        (self.tensor.elements() * self.dtype.bitsize() / 8) as u64
    }
}

/// Writes files in a folder.
pub(super) struct Writer<'w> {
    pub folder: &'w Path,
    /// The maximum size of a file in bytes.
    pub max_bytes: u64,
    /// The number of bytes written so far.
    pub done: u64,
    /// The total number of bytes.
    pub total: u64,
    pub progress: &'w mut dyn FnMut(&str, u64, u64),
}

/// The files with the tensors of one part.
pub(super) struct WrittenFiles {
    pub files: Vec<WrittenFile>,
    /// The path for a registry, relative to the folder: the only file, or the index.
    pub entry: String,
}

impl Writer<'_> {
    /// Returns a writer with the same settings that borrows `progress` from this one.
    pub fn reborrow(&mut self) -> Writer<'_> {
        Writer {
            folder: self.folder,
            max_bytes: self.max_bytes,
            done: self.done,
            total: self.total,
            progress: self.progress,
        }
    }

    /// Writes `items` as `<stem>.safetensors`, or as `<stem>-00001-of-0000N.safetensors` and so on.
    pub fn write(
        &mut self,
        stem: &str,
        items: &[OutputTensor<'_>],
    ) -> Result<WrittenFiles, ConvertError> {
        let shards = split(items, self.max_bytes);
        if let Some(parent) = self.folder.join(stem).parent() {
            fs::create_dir_all(parent).map_err(ConvertError::write(parent))?;
        }
        let count = shards.len();
        let (mut files, mut map) = (Vec::new(), Map::new());
        for (index, shard) in shards.into_iter().enumerate() {
            let path = match count {
                1 => format!("{stem}.safetensors"),
                _ => format!("{stem}-{:05}-of-{count:05}.safetensors", index + 1),
            };
            let file = path.rsplit('/').next().unwrap_or_default().to_owned();
            for item in &shard {
                map.insert(item.name.clone(), Value::String(file.clone()));
            }
            files.push(self.file(&path, &shard)?);
        }
        if count == 1 {
            let entry = format!("{stem}.safetensors");
            return Ok(WrittenFiles { files, entry });
        }
        let entry = format!("{stem}.safetensors.index.json");
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        let path = self.folder.join(&entry);
        fs::write(&path, format!("{index:#}\n")).map_err(ConvertError::write(path))?;
        Ok(WrittenFiles { files, entry })
    }

    /// Writes one file. The library requests the bytes of each tensor when it writes it, so at most one converted
    /// tensor is in memory.
    fn file(
        &mut self,
        path: &str,
        items: &[&OutputTensor<'_>],
    ) -> Result<WrittenFile, ConvertError> {
        let bytes = items.iter().map(|item| item.bytes()).sum();
        let (done, total) = (self.done, self.total);
        let state = RefCell::new(State {
            done,
            total,
            progress: self.progress,
            failed: None,
        });
        let views = items.iter().map(|item| {
            let view = Streamed {
                item,
                state: &state,
            };
            (item.name.as_str(), view)
        });
        let full = self.folder.join(path);
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let written = safetensors::serialize_to_file(views, Some(metadata), &full);
        if let Some(failed) = state.into_inner().failed {
            return Err(failed);
        }
        written.map_err(|error| ConvertError::Write {
            path: full,
            source: match error {
                SafeTensorError::IoError(error) => error,
                error => io::Error::other(error),
            },
        })?;
        self.done = done + bytes;
        Ok(WrittenFile {
            path: PathBuf::from(path),
            tensors: items.len(),
            bytes,
        })
    }
}

/// Splits tensors into shards of at most `max_bytes`, or of a single larger tensor. Returns at least one shard.
fn split<'i, 'c>(items: &'i [OutputTensor<'c>], max_bytes: u64) -> Vec<Vec<&'i OutputTensor<'c>>> {
    let mut shards: Vec<Vec<&OutputTensor<'_>>> = vec![Vec::new()];
    let mut bytes = 0u64;
    for item in items {
        let after = bytes.saturating_add(item.bytes());
        match shards.last_mut() {
            Some(shard) if shard.is_empty() || after <= max_bytes => {
                shard.push(item);
                bytes = after;
            }
            _ => {
                shards.push(vec![item]);
                bytes = item.bytes();
            }
        }
    }
    shards
}

struct State<'w> {
    done: u64,
    total: u64,
    progress: &'w mut dyn FnMut(&str, u64, u64),
    /// The first tensor that could not be converted.
    failed: Option<ConvertError>,
}

/// A tensor that is converted when the library requests its bytes.
struct Streamed<'i, 'c, 's, 'w> {
    item: &'i OutputTensor<'c>,
    state: &'s RefCell<State<'w>>,
}

impl View for Streamed<'_, '_, '_, '_> {
    fn dtype(&self) -> Dtype {
        self.item.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.item.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let OutputTensor {
            name,
            tensor,
            dtype,
        } = self.item;
        let mut state = self.state.borrow_mut();
        let (done, total) = (state.done, state.total);
        (state.progress)(name, done, total);
        state.done += self.item.bytes();
        let stored = tensor.read();
        let same = super::stored_as(tensor.dtype, None) == Some(*dtype);
        if same || state.failed.is_some() {
            return stored;
        }
        match converted(&stored, tensor.dtype, *dtype) {
            Ok(bytes) => Cow::Owned(bytes),
            Err(lost) => {
                state.failed = Some(ConvertError::Refused(format!(
                    "tensor `{name}` has {lost} numbers that are too large for {dtype}; \
                     use `--dtype bf16` or `--dtype f32`"
                )));
                stored
            }
        }
    }

    fn data_len(&self) -> usize {
        self.item.tensor.elements() * self.item.dtype.bitsize() / 8
    }
}
