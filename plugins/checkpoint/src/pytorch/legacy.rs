//! The files that `torch.save` wrote before version 1.6 and can still write (`_legacy_save` in
//! `torch/serialization.py`): five pickles, then each storage as its number of elements and its bytes. The
//! position of a storage follows from the sizes of those before it.

use super::{
    error::{ReadError, big_endian},
    pickle::{Pickle, Value},
    tensors::read_tensors,
};
use crate::{CheckpointError, contents::FileContents, mapped::MappedFile};
use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// `MAGIC_NUMBER` of `torch/serialization.py` in pickle protocol 2.
const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// `PROTOCOL_VERSION` of `torch/serialization.py`.
const PROTOCOL: i128 = 1001;

/// Returns whether the file begins with PyTorch's magic number.
pub(crate) fn is_legacy(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads the tensors of a legacy file.
pub(crate) fn read(file: &Arc<MappedFile>) -> Result<FileContents, CheckpointError> {
    read_pickles(file).map_err(|error| error.in_file(file))
}

fn read_pickles(file: &Arc<MappedFile>) -> Result<FileContents, ReadError> {
    let bytes = file.bytes();
    let mut at = MAGIC.len();
    let mut next = || {
        let (pickle, length) = Pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += length;
        Ok::<_, ReadError>(pickle)
    };
    let protocol = next()?;
    if !matches!(protocol.root(), Value::Int(PROTOCOL)) {
        return Err(ReadError::Unsupported(format!(
            "its protocol is not {PROTOCOL}, that of PyTorch's legacy files"
        )));
    }
    let system = next()?;
    if matches!(system.entry("little_endian"), Some(Value::Bool(false))) {
        return Err(big_endian());
    }
    let saved = next()?;
    let keys = next()?;
    let storages = locate(bytes, at, &saved, &keys)?;
    read_tensors(file, &saved, |storage| {
        storages
            .get(storage.key)
            .cloned()
            .ok_or_else(|| ReadError::Damaged(format!("it has no storage `{}`", storage.key)))
    })
}

/// Returns the range of bytes of each storage, by key.
fn locate<'a>(
    bytes: &[u8],
    mut at: usize,
    saved: &Pickle<'a>,
    keys: &Pickle<'a>,
) -> Result<BTreeMap<&'a str, Range<usize>>, ReadError> {
    let mut kinds = BTreeMap::new();
    for storage in saved.storages() {
        let kind = (storage.dtype, storage.elements);
        if kinds
            .insert(storage.key, kind)
            .is_some_and(|other| other != kind)
        {
            return Err(ReadError::Damaged(format!(
                "the storage `{}` is declared twice with different types or sizes",
                storage.key
            )));
        }
    }
    let Value::List(list) = keys.root() else {
        return Err(ReadError::Damaged(
            "its list of storages is not a list".to_owned(),
        ));
    };
    let mut storages = BTreeMap::new();
    for &id in list {
        let Value::Str(key) = *keys.value(id) else {
            return Err(ReadError::Damaged(
                "the key of a storage is not a string".to_owned(),
            ));
        };
        let &(dtype, elements) = kinds.get(key).ok_or_else(|| {
            ReadError::Damaged(format!("the type of the storage `{key}` is not declared"))
        })?;
        let cut = || {
            ReadError::Damaged(format!(
                "the storage `{key}` of {elements} {dtype} begins at byte {at} and ends beyond the file, which \
                 has {} bytes",
                bytes.len()
            ))
        };
        let stated = bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .ok_or_else(cut)?;
        if u64::from_le_bytes(*stated) != elements as u64 {
            return Err(ReadError::Damaged(format!(
                "the storage `{key}` is declared with {} elements and with {elements}",
                u64::from_le_bytes(*stated)
            )));
        }
        let start = at + stated.len();
        let end = elements
            .checked_mul(dtype.block_bytes())
            .and_then(|length| start.checked_add(length))
            .filter(|&end| end <= bytes.len())
            .ok_or_else(cut)?;
        if storages.insert(key, start..end).is_some() {
            return Err(ReadError::Damaged(format!(
                "the storage `{key}` occurs twice"
            )));
        }
        at = end;
    }
    Ok(storages)
}
