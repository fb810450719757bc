//! Reads PyTorch checkpoints (`torch/serialization.py`) without executing anything: the zip archives that
//! `torch.save` writes since version 1.6, and the legacy files of earlier versions.

mod legacy;
mod pickle;
#[cfg(test)]
mod tests;
mod walk;
mod zip;

use crate::{CheckpointError, StoredTensor, checkpoint::FileContents, mapped::MappedFile};
use pickle::{Pickle, Storage};
use std::{collections::BTreeMap, ops::Range, sync::Arc};
use walk::NamedValues;

pub(crate) use legacy::{is_legacy, read as read_legacy};

const FORMAT: &str = "PyTorch";

/// The largest size of a pickle, in bytes. It contains names and shapes, which take a few megabytes in the
/// largest models.
const MAX_PICKLE: usize = 1 << 26;

/// An error of reading a PyTorch file, without the file's path.
#[derive(Debug)]
enum ReadError {
    /// The file is damaged or malicious.
    Damaged(String),
    /// The file may be complete, but has unsupported contents.
    Unsupported(String),
}

impl ReadError {
    fn in_file(self, file: &MappedFile) -> CheckpointError {
        match self {
            Self::Damaged(what) => file.damaged(FORMAT, what),
            Self::Unsupported(what) => file.unsupported(what),
        }
    }
}

/// Returns whether the file begins like a zip archive.
pub(crate) fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// Reads the tensors of a zip archive that `torch.save` wrote.
pub(crate) fn read_zip(file: &Arc<MappedFile>) -> Result<FileContents, CheckpointError> {
    read_archive(file).map_err(|error| error.in_file(file))
}

fn read_archive(file: &Arc<MappedFile>) -> Result<FileContents, ReadError> {
    let bytes = file.bytes();
    let entries = zip::entries(bytes)?;
    let mut pickles = entries
        .keys()
        .filter_map(|name| name.strip_suffix("/data.pkl"))
        .filter(|prefix| !prefix.contains('/'));
    let (prefix, another) = (pickles.next(), pickles.next());
    let Some(prefix) = prefix else {
        return Err(ReadError::Unsupported(
            "it is a zip archive without a `data.pkl`; expected one that `torch.save` wrote"
                .to_owned(),
        ));
    };
    if let Some(another) = another {
        return Err(ReadError::Damaged(format!(
            "it contains two checkpoints, `{prefix}` and `{another}`"
        )));
    }
    let entry = |name: &str| entries.get(format!("{prefix}/{name}").as_str());
    if entry("constants.pkl").is_some() {
        return Err(ReadError::Unsupported(
            "it is a TorchScript program; expected only weights, as \
             `torch.save(model.state_dict(), …)` writes them"
                .to_owned(),
        ));
    }
    if let Some(range) = entry("byteorder")
        && bytes[range.clone()] != *b"little"
    {
        return Err(big_endian());
    }
    let pickle = entry("data.pkl").map_or(&[][..], |range| &bytes[range.clone()]);
    let (pickle, _) = Pickle::read(pickle)?;
    read_tensors(file, &pickle, |storage| {
        let range = entry(&format!("data/{}", storage.key))
            .ok_or_else(|| ReadError::Damaged(format!("it has no storage `{}`", storage.key)))?;
        let needed = storage.elements.checked_mul(storage.dtype.block_bytes());
        match needed {
            Some(needed) if needed <= range.len() => Ok(range.start..range.start + needed),
            _ => Err(ReadError::Damaged(format!(
                "the storage `{}` of {} {} has only {} bytes",
                storage.key,
                storage.elements,
                storage.dtype,
                range.len()
            ))),
        }
    })
}

fn big_endian() -> ReadError {
    ReadError::Unsupported("its numbers are big-endian; expected little-endian numbers".to_owned())
}

/// Reads the tensors that `pickle` lists. `locate` returns the range of bytes of a storage in the file.
fn read_tensors(
    file: &Arc<MappedFile>,
    pickle: &Pickle<'_>,
    locate: impl Fn(&Storage<'_>) -> Result<Range<usize>, ReadError>,
) -> Result<FileContents, ReadError> {
    let NamedValues {
        tensors: found,
        ignored,
    } = walk::walk(pickle)?;
    let mut tensors = BTreeMap::new();
    for (name, index) in found {
        let view = pickle.tensor(index);
        let storage = pickle.storage(view.storage);
        let damaged = |what| ReadError::Damaged(format!("tensor `{name}`: {what}"));
        let tensor = StoredTensor::view(
            file,
            storage.dtype,
            view.shape.clone(),
            view.strides.clone(),
            view.offset,
            locate(storage)?,
        )
        .map_err(damaged)?;
        if tensors.contains_key(&name) {
            return Err(ReadError::Damaged(format!("tensor `{name}` occurs twice")));
        }
        tensors.insert(name, tensor);
    }
    Ok(FileContents {
        tensors,
        gguf: None,
        ignored,
    })
}
