//! Memory whose size a file decides: too much of it is an error, never an abort.

use std::path::Path;

use super::error::VideoError;

/// `len` bytes, all 0.
pub(super) fn zeroed(path: &Path, len: usize) -> Result<Vec<u8>, VideoError> {
    let mut buffer = with_room_for(path, len)?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// An empty list with room for `len` items.
pub(super) fn with_room_for<T>(path: &Path, len: usize) -> Result<Vec<T>, VideoError> {
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

/// Refuses a file whose decoder needs `len` bytes that cannot be allocated. For libraries that allocate
/// themselves and abort when memory is short.
pub(super) fn check(path: &Path, len: u64) -> Result<(), VideoError> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    with_room_for::<u8>(path, len).map(drop)
}

fn exhausted<T>(path: &Path, len: usize) -> VideoError {
    VideoError::OutOfMemory {
        path: path.to_owned(),
        bytes: len.saturating_mul(size_of::<T>()),
    }
}
