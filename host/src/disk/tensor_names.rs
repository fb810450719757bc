//! Names of tensors in safetensors files: each may stand there once, and one is taken.

use std::{collections::HashSet, io};
use thiserror::Error;

/// Names that a safetensors file cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TensorNameError {
    /// The name of the file's own metadata.
    #[error(
        "a tensor is named `__metadata__`, which is where safetensors files keep their metadata"
    )]
    Reserved,
    /// A file has each name once.
    #[error("two tensors are named `{0}`, and a safetensors file holds each name once")]
    Twice(String),
}

impl From<TensorNameError> for io::Error {
    fn from(error: TensorNameError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}

/// What a person can do about such a name.
pub(crate) const ADVICE: &str =
    "rename the tensor in the model's files, or tell the author of the plugin that named it";

/// Checks the names of all tensors of a file.
///
/// # Errors
///
/// When the file could not be read back with them.
pub(crate) fn check_names<'n>(
    names: impl IntoIterator<Item = &'n str>,
) -> Result<(), TensorNameError> {
    let mut seen = HashSet::new();
    for name in names {
        if name == "__metadata__" {
            return Err(TensorNameError::Reserved);
        }
        if !seen.insert(name) {
            return Err(TensorNameError::Twice(name.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reserved_name_and_a_second_one_are_refused() {
        let twice = TensorNameError::Twice("a".to_owned());
        assert_eq!(check_names(["a", "A", "__metadata", ""]), Ok(()));
        assert_eq!(
            check_names(["a", "__metadata__"]),
            Err(TensorNameError::Reserved)
        );
        assert_eq!(check_names(["a", "b", "a"]), Err(twice));
    }
}
