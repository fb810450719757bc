//! Fallible allocation for sizes that come from a file: running out of memory is an error and not an abort.

use std::path::Path;

use super::error::VideoError;

/// Allocates `len` zero bytes.
pub(super) fn zeroed(path: &Path, len: usize) -> Result<Vec<u8>, VideoError> {
    let mut buffer = with_capacity_for(path, len)?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// Allocates an empty list with capacity for `len` items.
pub(super) fn with_capacity_for<T>(path: &Path, len: usize) -> Result<Vec<T>, VideoError> {
    let mut list = Vec::new();
    list.try_reserve_exact(len)
        .map_err(|_| exhausted::<T>(path, len))?;
    Ok(list)
}

/// Appends to a list that grows with the file.
pub(super) fn push<T>(path: &Path, list: &mut Vec<T>, item: T) -> Result<(), VideoError> {
    list.try_reserve(1)
        .map_err(|_| exhausted::<T>(path, list.len() + 1))?;
    list.push(item);
    Ok(())
}

/// Checks that `len` bytes can be allocated. Called before libraries that abort when they run out of memory.
pub(super) fn check(path: &Path, len: u64) -> Result<(), VideoError> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    with_capacity_for::<u8>(path, len).map(drop)
}

fn exhausted<T>(path: &Path, len: usize) -> VideoError {
    VideoError::OutOfMemory {
        path: path.to_owned(),
        bytes: len.saturating_mul(size_of::<T>()),
    }
}
