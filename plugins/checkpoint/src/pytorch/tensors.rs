//! From a pickle and the places of its storages to tensors.

use super::{
    error::ReadError,
    pickle::{Pickle, Storage},
    walk::{self, NamedValues},
};
use crate::{StoredTensor, contents::FileContents, mapped::MappedFile};
use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// Reads the tensors that `pickle` lists. `locate` returns the range of bytes of a storage in the file.
pub(super) fn read_tensors(
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
            return Err(ReadError::Unsupported(format!(
                "tensor `{name}` occurs twice: the keys of nested dictionaries are joined with dots; rename one of \
                 the two keys and save it again"
            )));
        }
        tensors.insert(name, tensor);
    }
    Ok(FileContents { tensors, ignored })
}
