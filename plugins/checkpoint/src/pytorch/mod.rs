//! Reads PyTorch checkpoints (`torch/serialization.py`) without executing anything: the zip archives that
//! `torch.save` writes since version 1.6, and the legacy files of earlier versions.

mod error;
mod legacy;
mod pickle;
mod tensors;
#[cfg(test)]
mod tests;
mod walk;
mod zip;

use crate::{CheckpointError, contents::FileContents, mapped::MappedFile};
use error::{ReadError, big_endian};
use pickle::Pickle;
use std::sync::Arc;
use tensors::read_tensors;

pub(crate) use legacy::{is_legacy, read as read_legacy};

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
